/* SPDX-License-Identifier: Apache-2.0 */
#include "host/host.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"

static bool there(const char *root, const char *path)
{
    char *full = xasprintf("%s%s", root, path);
    bool is = access(full, F_OK) == 0;

    free(full);
    return is;
}

enum host_init host_init(const char *root)
{
    /* sd_booted(3) and OpenRC's own scripts ask for these; the files below are there without the system running, too. */
    if (there(root, "/run/systemd/system"))
        return HOST_INIT_SYSTEMD;
    if (there(root, "/run/openrc"))
        return HOST_INIT_OPENRC;
    if (there(root, "/etc/rc.conf") && there(root, "/etc/init.d"))
        return HOST_INIT_OPENRC;
    if (there(root, "/etc/systemd/system"))
        return HOST_INIT_SYSTEMD;
    return there(root, "/etc/init.d") ? HOST_INIT_SYSV : HOST_INIT_NONE;
}
