/* SPDX-License-Identifier: Apache-2.0 */
/* What the page is made of, as bytes of the scope executable; the paths come from meson.build. */
	.section .rodata
	.global page_css, page_css_end, page_js, page_js_end, page_d3, page_d3_end, page_d3_licence, page_d3_licence_end
page_css:
	.incbin PAGE_CSS
page_css_end:
page_js:
	.incbin PAGE_JS
page_js_end:
page_d3:
	.incbin PAGE_D3
page_d3_end:
page_d3_licence:
	.incbin PAGE_D3_LICENCE
page_d3_licence_end:
	.section .note.GNU-stack, "", %progbits
