/* SPDX-License-Identifier: Apache-2.0 */
/* More code than a jump of arm64 reaches, behind all that is run. */
__asm__(".pushsection .filler, \"ax\"\n"
        ".skip 160 << 20\n"
        ".popsection\n");
