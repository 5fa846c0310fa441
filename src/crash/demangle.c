/* SPDX-License-Identifier: Apache-2.0 */
/* Apart from the rest: libiberty declares functions of the names of base/mem.h, and none of them is called. */
#include "crash/demangle.h"

#include <libiberty/demangle.h>
#include <stdlib.h>
#include <string.h>

char *demangle(const char *name)
{
    char *plain = NULL, *cut;

    if (strlen(name) <= DEMANGLE_MAX && name[0] == '_' && (name[1] == 'R' || name[1] == 'Z')) {
        plain = rust_demangle(name, DMGL_PARAMS);
        if (!plain && name[1] == 'Z')
            plain = cplus_demangle_v3(name, DMGL_PARAMS | DMGL_ANSI);
    }
    cut = strndup(plain ? plain : name, DEMANGLE_SHOWN);
    free(plain);
    return cut ? cut : strdup("");
}
