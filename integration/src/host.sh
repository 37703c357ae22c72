#!/bin/bash
# Makes DIRECTORY the root file system of a node, in this process' mount namespace, and stays: host.sh DIRECTORY CONTAINERD.
# Its programs are the machine's; containerd, a stand-in for systemctl, and what they write are its own.
set -euo pipefail
root=$1 containerd=$2

mkdir -p "$root"/{usr,proc,sys,dev,run,tmp,etc/containerd,var/lib,var/log,var/cache,opt/containerd/bin}
for name in bin sbin lib lib64; do ln -s "usr/$name" "$root/$name"; done

cat >"$root/opt/containerd/bin/systemctl" <<'SYSTEMCTL'
#!/bin/sh
echo "$@" >>/var/log/systemctl
case "$*" in
*" containerd.service") ;;
*) exit 3 ;;
esac
case "$1" in
restart)
    pid=$(cat /run/containerd.pid)
    kill "$pid"
    # Its parent may be long in waiting for it.
    while [ -d "/proc/$pid" ] && ! grep -q '^State:.Z' "/proc/$pid/status"; do sleep 0.05; done
    exec /opt/containerd/bin/start
    ;;
esac
SYSTEMCTL

cat >"$root/opt/containerd/bin/start" <<'START'
#!/bin/sh
export PATH=/opt/containerd/bin:/usr/sbin:/usr/bin:/sbin:/bin
setsid containerd >>/var/log/containerd.log 2>&1 </dev/null &
echo $! >/run/containerd.pid
START
chmod +x "$root"/opt/containerd/bin/*

mount --bind "$root" "$root"
cd "$root"
touch opt/containerd/bin/containerd
mount --bind "$containerd" opt/containerd/bin/containerd
mount --rbind /usr usr
mount --rbind /sys sys
mount --rbind /dev dev
mount -t proc proc proc
exec chroot . sh -c 'echo ready && exec sleep infinity'
