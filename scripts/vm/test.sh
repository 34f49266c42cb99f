#!/usr/bin/env bash
# Runs the tests of the sandbox on the kernel and the systemd of Debian 12, in a virtual machine: cgroup v2 alone,
# whatever the host has. Without KVM the machine is emulated: everything then takes half an hour, so choose.
#
#   scripts/vm/test.sh [REGEXP]     REGEXP chooses tests by name, as go test -run does
#
# Needs root, Go, and: apt-get install qemu-system-x86 debootstrap cpio busybox-static kmod. The machine's files are kept
# in $VM_DIR, /var/tmp/thaw-vm unless it is set: remove it to get a newer kernel. The host is not changed.
set -euo pipefail
cd "$(dirname "$0")/../.."

run=${1:-.}
dir=${VM_DIR:-/var/tmp/thaw-vm}
mkdir -p "$dir"
for command in qemu-system-x86_64 debootstrap cpio busybox mke2fs depmod modprobe; do
	command -v "$command" >/dev/null || { echo "$command is missing: see the top of $0" >&2; exit 1; }
done

# The machine's first steps: modules by name, then Debian's own init.
make_initrd() { # ROOT KERNEL
	local ir n=100 module
	ir=$(mktemp -d)
	mkdir -p "$ir"/{bin,dev,mnt,modules,proc}
	cp "$(command -v busybox)" "$ir/bin/busybox"
	for module in $(for m in virtio_pci virtio_blk ext4; do modprobe -d "$1" -S "$2" --show-depends "$m"; done | awk '$1 == "insmod" && !seen[$2]++ {print $2}'); do
		cp "$module" "$ir/modules/$((n++)).ko"
	done
	cat >"$ir/init" <<-'END'
		#!/bin/busybox sh
		/bin/busybox mount -t devtmpfs dev /dev
		for m in /modules/*; do /bin/busybox insmod "$m"; done
		while [ ! -b /dev/vda ]; do /bin/busybox sleep 0.2; done
		/bin/busybox mount -t ext4 /dev/vda /mnt
		exec /bin/busybox switch_root /mnt /sbin/init
	END
	chmod +x "$ir/init"
	(cd "$ir" && find . | cpio -o -H newc --quiet | gzip -1) >"$dir/initrd.gz"
	rm -rf "$ir"
}

# Debian with the interpreters and a kernel, as a directory. The boot loader is not needed, so the kernel is unpacked only.
make_root() {
	local root=$dir/root.new kernel
	rm -rf "$root"
	debootstrap --variant=minbase --include=ca-certificates,curl,dbus,iproute2,kmod,nodejs,procps,python3,systemd-sysv bookworm "$root"
	chroot "$root" apt-get -q update
	kernel=$(chroot "$root" apt-cache depends linux-image-amd64 | awk '/Depends: linux-image/ {print $2; exit}')
	(cd "$root/tmp" && chroot "$root" sh -c "cd /tmp && apt-get -q download $kernel" && dpkg-deb -x "$kernel"_*.deb unpacked)
	cp -a "$root/tmp/unpacked/lib/modules" "$root/usr/lib/"
	mv "$root"/tmp/unpacked/boot/vmlinuz-* "$dir/vmlinuz"
	kernel=$(basename "$root"/usr/lib/modules/*)
	depmod -b "$root" "$kernel"
	make_initrd "$root" "$kernel"
	cat >"$root/etc/systemd/system/tests.service" <<-'END'
		[Unit]
		SuccessAction=poweroff
		FailureAction=poweroff
		[Service]
		Type=oneshot
		ExecStart=/opt/tests/run
		StandardOutput=tty
		StandardError=tty
		TTYPath=/dev/ttyS1
		TasksMax=infinity
		[Install]
		WantedBy=multi-user.target
	END
	chroot "$root" systemctl -q enable tests
	rm -rf "$root"/tmp/* "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
	mv "$root" "$dir/root"
}

[ -d "$dir/root" ] || make_root

tests=$dir/root/opt/tests
rm -rf "$tests"
for package in linux linux/network linux/probe linux/seccomp; do
	mkdir -p "$tests/$package"
	CGO_ENABLED=0 go test -c -o "$tests/$package/test" "./sandbox/$package"
done
cp -R sandbox/linux/native "$tests/linux/"
CGO_ENABLED=0 go build -o "$tests/thaw" ./cmd/thaw
cat >"$tests/run" <<END
#!/bin/bash
uname -sr
stat -fc '%T at %n' /sys/fs/cgroup
/opt/tests/thaw doctor
failed=0
for p in linux linux/network linux/probe linux/seccomp; do
	cd /opt/tests/\$p && ./test -test.v -test.run '$run' || failed=1
done
echo "failed=\$failed"
END
chmod +x "$tests/run"
rm -f "$dir/disk"
: >"$dir/output"
mke2fs -q -t ext4 -d "$dir/root" "$dir/disk" 3G

# A processor that cannot virtualise may have a /dev/kvm all the same.
accel=tcg
if [ -w /dev/kvm ] && grep -qwE 'vmx|svm' /proc/cpuinfo; then
	accel=kvm
fi
qemu-system-x86_64 -machine "accel=$accel" -cpu max -smp 1 -m 2048 -display none -no-reboot \
	-kernel "$dir/vmlinuz" -initrd "$dir/initrd.gz" -append "console=ttyS0 quiet panic=-1" \
	-drive "file=$dir/disk,format=raw,if=virtio,cache=unsafe" -nic user,model=virtio-net-pci \
	-serial "file:$dir/console" -serial "file:$dir/output" &
machine=$!
trap 'kill $machine 2>/dev/null || true' EXIT
tail -n +1 -f --pid=$machine "$dir/output"
wait $machine
grep -q '^failed=0' "$dir/output"
