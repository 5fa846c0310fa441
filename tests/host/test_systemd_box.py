# SPDX-License-Identifier: Apache-2.0
"""The box in which services are tested: a real systemd, apart from the machine's."""

import os
from pathlib import Path

from scopetest import check, equal, test
from systemd_box import Box


@test("systemd_box")
def box_is_apart(ctx):
    """Services of Debian run in it; nothing of it is seen outside; nothing is left when it is over."""
    before = set(Path("/etc").iterdir()), Path("/proc/sys/kernel/core_pattern").read_text()
    with Box(ctx, etc=["nginx"], files={"var/log/nginx/error.log": "", "var/lib/nginx/x": ""}) as box:
        box.unit("web.service", "[Service]\nType=notify\nNotifyAccess=all\n"
                 "ExecStart=/bin/sh -c 'systemd-notify --ready; exec sleep inf'\n")
        box.systemctl("start", "web.service")
        equal(box.show("web", "ActiveState", "SubState"), {"ActiveState": "active", "SubState": "running"})
        box.systemctl("start", "nginx.service")
        equal(box.show("nginx", "ActiveState"), {"ActiveState": "active"})
        check(box.pid(box.show("nginx", "MainPID")["MainPID"]), "nginx isn't there")
        box.run(["touch", "/etc/inside", "/usr/lib/inside", "/run/inside"], check_code=0)
        check((box.root / "etc/inside").exists(), "its /etc isn't that directory")
        equal(box.run(["sh", "-c", "echo x >/proc/sys/kernel/core_pattern"]).code != 0, True, "a sysctl can be set")
        group = box.group
    check(not group.exists(), "its cgroup is left")
    check(not os.path.exists("/usr/lib/inside") and not os.path.exists("/run/inside"), "a file outside")
    equal((set(Path("/etc").iterdir()), Path("/proc/sys/kernel/core_pattern").read_text()), before)
