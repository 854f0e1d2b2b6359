#!/bin/sh
# "remove" is dpkg's word for it, "0" rpm's. An upgrade leaves what runs as it is.
set -e
case ${1:-} in
remove | 0)
	if [ -z "${DPKG_ROOT:-}" ] && [ -d /run/systemd/system ]; then
		systemctl disable --now rota-gateway.service rota-worker.service rota-scheduler.service
	fi
	;;
esac
