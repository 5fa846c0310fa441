/* SPDX-License-Identifier: Apache-2.0 */
/* The built probe as bytes of the scope executable; LIBSCOPE_PATH comes from meson.build. */
	.section .rodata
	.global libscope_blob
	.global libscope_blob_end
	.balign 16
libscope_blob:
	.incbin LIBSCOPE_PATH
libscope_blob_end:
	.section .note.GNU-stack, "", %progbits
