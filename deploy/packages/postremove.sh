#!/bin/sh
# The user and /var/lib/rota stay: what a scheduler has stored is in there.
set -e
if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
