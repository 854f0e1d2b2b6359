#!/bin/sh
# The user that the units run as, and what is its own. Nothing is enabled or started.
set -e
root=${DPKG_ROOT:-}
if ! grep -q '^rota:' "$root/etc/passwd" && { [ -n "$root" ] || ! getent passwd rota >/dev/null; }; then
	useradd --system --user-group --no-create-home --home-dir /var/lib/rota --shell /usr/sbin/nologin ${root:+--prefix "$root"} rota
fi
user=rota group=rota
if [ -n "$root" ]; then # whose names are not this system's
	user=$(sed -n 's/^rota:[^:]*:\([0-9]*\):.*/\1/p' "$root/etc/passwd")
	group=$(sed -n 's/^rota:[^:]*:\([0-9]*\):.*/\1/p' "$root/etc/group")
fi
chown "$user:$group" "$root/var/lib/rota"
# Configurations may name what is not for everybody.
chown "root:$group" "$root/etc/rota" "$root"/etc/rota/*.yaml
if [ -z "$root" ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
