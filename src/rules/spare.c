/* SPDX-License-Identifier: Apache-2.0 */
#include "rules/spare.h"

const char *const rules_spare[] = {
    /* process 1 and what it has around it */
    "init", "systemd", "systemd-*", "(sd-*", "systemctl", "journalctl", "loginctl", "openrc*", "rc-*", "start-stop-daemon",
    "supervise-daemon", "runit*", "runsv*", "svlogd", "s6-*", "telinit", "shutdown", "reboot", "poweroff", "halt",
    "tini", "dumb-init", "catatonit", "docker-init",
    /* programs that the kernel starts: modules, keys, crashes, devices */
    "modprobe", "kmod", "insmod", "request-key", "nfsidmap", "cifs.upcall", "apport*", "abrt*", "udevd", "udevadm", "mdev",
    "hotplug", "bridge-stp",
    /* the bus and who may log in */
    "dbus-*", "polkitd", "polkit-*", "pkexec", "pkttyagent", "agetty", "getty", "mingetty", "login", "sulogin", "su",
    "sudo", "unix_chkpwd",
    /* hardware, network and storage of the host */
    "acpid", "avahi-*", "bluetoothd", "colord*", "cupsd", "cups-*", "fwupd*", "irqbalance", "thermald", "upowerd",
    "udisksd", "multipathd", "lvm*", "dmeventd", "mdadm", "smartd", "rngd", "haveged", "ModemManager", "NetworkManager",
    "nm-*", "networkd-dispatcher", "wpa_supplicant", "iwd", "dhclient*", "dhcpcd", "chronyd", "ntpd", "power-profiles-*",
    "switcheroo-*", "boltd", "auditd", "audisp*", "rsyslogd", "syslog-ng", "klogd", "syslogd", "snapd", "snap", "snap-*",
    "snapfuse", "packagekitd", "unattended-upgr*", "qemu-ga",
    /* what starts containers */
    "containerd*", "dockerd", "docker-proxy", "runc", "crun", "youki", "kata-*", "conmon", "crio", "podman", "buildah",
    "netavark", "aardvark-dns", "slirp4netns", "pasta*", "fuse-overlayfs", "newuidmap", "newgidmap", "kubelet", "kube-proxy",
    "lxc-*", "lxcfs",
    /* the desktop */
    "gdm*", "sddm*", "lightdm*", "gnome-*", "gsd-*", "gvfs*", "goa-*", "ibus-*", "at-spi*", "dconf-*", "evolution-*",
    "mutter*", "kwin*", "plasma*", "kded*", "ksmserver", "startplasma*", "xfce4-*", "xfwm4", "pipewire*", "pulseaudio",
    "wireplumber", "rtkit-*", "tracker-*", "xdg-*", "Xorg", "Xwayland", "gpg-agent", "ssh-agent",
    /* ourselves */
    "scope",
    NULL,
};

size_t rules_spare_count(void)
{
    return sizeof(rules_spare) / sizeof(*rules_spare) - 1;
}
