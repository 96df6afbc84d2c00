#!/bin/sh
# Runs a program and starts it again as soon as it has been killed:
#
#     supervise.sh mrci --dir DIR host --listen ADDR:PORT
#
# It says "started PID" for each start. A program that ends with status 0 was
# asked to, and stays stopped; one that gives up by itself is tried again after
# a second. After SIGTERM nothing is started any more: what runs is waited for.

ending=
trap 'ending=yes' TERM INT HUP

while [ -z "$ending" ]; do
	"$@" &
	child=$!
	echo "started $child"
	status=0
	wait "$child" || status=$?
	# The wait also ends when this script gets a signal.
	while kill -0 "$child" 2>/dev/null; do
		status=0
		wait "$child" || status=$?
	done
	if [ "$status" -eq 0 ]; then
		exit 0
	fi
	if [ "$status" -le 128 ]; then
		echo "gave up with status $status" >&2
		sleep 1
	fi
done
exit "$status"
