/* SPDX-License-Identifier: Apache-2.0 */
/* rewrite FROM TO [METHOD TYPE]: of the class files named on stdin, below directory FROM, each method gets calls of
 * java.lang.Counted.enter() and .leave(), or only the one named, which then also stores into its second parameter; written
 * below TO. Says how many were rewritten. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "probe/classfile.h"

#define ROOM (8u << 20)

int main(int argc, char **argv)
{
    static const struct class_site all = {.enter = {.name = "enter", .type = "()V"}, .leave = {.name = "leave", .type = "()V"}};
    /* iload_2, istore_2 */
    struct class_site one = {.enter = {.name = "enter", .type = "()V", .push = {0x1c, 0x3d}, .push_size = 2, .stack = 1}};
    static struct class_scratch scratch;
    static uint8_t in[ROOM], out[ROOM];
    char name[4096], path[8192];
    unsigned done = 0, left = 0;

    if (argc != 3 && argc != 5)
        return 2;
    if (argc == 5) {
        one.name = argv[3];
        one.type = argv[4];
    }
    while (fgets(name, sizeof(name), stdin)) {
        size_t n, now;
        FILE *f;

        name[strcspn(name, "\n")] = 0;
        snprintf(path, sizeof(path), "%s/%s", argv[1], name);
        f = fopen(path, "rb");
        if (!f)
            return 1;
        n = fread(in, 1, sizeof(in), f);
        fclose(f);
        now = class_rewrite(in, n, "java/lang/Counted", one.name ? &one : NULL, 1, &all, &scratch, out, sizeof(out));
        if (!now || class_rewrite(out, now, "java/lang/Counted", NULL, 0, &all, &scratch, in, sizeof(in)) <= now) {
            fprintf(stderr, "left alone: %s\n", name);
            left++;
            continue;
        }
        done++;
        snprintf(path, sizeof(path), "%s/%s", argv[2], name);
        f = fopen(path, "wb");
        if (!f || fwrite(out, 1, now, f) != now || fclose(f))
            return 1;
    }
    printf("%u rewritten, %u left alone\n", done, left);
    return 0;
}
