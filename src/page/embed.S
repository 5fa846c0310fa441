/* SPDX-License-Identifier: Apache-2.0 */
/* What the page is made of, as bytes of the scope executable; the paths come from meson.build. */
	.macro bytes name, path
	.global page_\name
	.global page_\name\()_end
page_\name:
	.incbin "\path"
page_\name\()_end:
	.endm

	.section .rodata
	bytes css, PAGE_CSS
	bytes js, PAGE_JS
	bytes d3, PAGE_D3
	bytes d3_licence, PAGE_D3_LICENCE
	.section .note.GNU-stack, "", %progbits
