#!/usr/bin/env bash
# Builds the examples into bin/examples, each as a directory that `thaw deploy` takes.
set -euo pipefail
cd "$(dirname "$0")/.."

out=bin/examples
mkdir -p "$out"
for name in python-echo node-echo ruby-echo python-boto3 node-npm node-s3; do
	mkdir -p "$out/$name"
	cp -R "examples/$name/." "$out/$name/"
	rm -f "$out/$name/README.md" "$out/$name/.gitignore"
done

mkdir -p "$out/go-lambda"
CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$out/go-lambda/bootstrap" ./examples/go-lambda

if command -v javac >/dev/null; then
	javac --release 17 -d "$out/java-hello" examples/java-hello/example/Hello.java
else
	echo "examples: java-hello needs a JDK and is left out" >&2
fi

# Functions that only the benchmark needs are left out without a word where what they use is not there.
if command -v javac >/dev/null && [ -f /usr/share/java/gson.jar ]; then
	mkdir -p "$out/java-gson/lib"
	cp -L /usr/share/java/gson.jar "$out/java-gson/lib/"
	javac --release 17 -cp /usr/share/java/gson.jar -d "$out/java-gson" bench/functions/java-gson/example/Order.java
fi
if [ -d /usr/lib/python3/dist-packages/numpy ] && [ ! -d "$out/python-numpy/numpy" ]; then
	mkdir -p "$out/python-numpy"
	cp -RL /usr/lib/python3/dist-packages/numpy "$out/python-numpy/"
	find "$out/python-numpy" -name __pycache__ -prune -exec rm -rf {} +
	python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash "$out/python-numpy/numpy"
fi
if [ -d "$out/python-numpy/numpy" ]; then
	cp examples/python-numpy/app.py "$out/python-numpy/"
fi

if command -v cargo >/dev/null; then
	cargo build --quiet --release --offline --manifest-path examples/rust-hello/Cargo.toml --target-dir bin/rust
	mkdir -p "$out/rust-hello"
	cp bin/rust/release/bootstrap "$out/rust-hello/bootstrap"
else
	echo "examples: rust-hello needs cargo and is left out" >&2
fi

# The slow steps leave a stamp beside what they made, and are not done again for the same stamp.
for name in node-npm node-s3; do
	if ! cmp -s "examples/$name/package-lock.json" "$out/.$name-installed"; then
		(cd "$out/$name" && npm ci --silent --no-audit --no-fund --ignore-scripts)
		cp "examples/$name/package-lock.json" "$out/.$name-installed"
	fi
done

# boto3 with what it imports, from Debian's packages. botocore knows every AWS service in 80 MB; the example speaks S3.
site=/usr/lib/python3/dist-packages
boto=$out/python-boto3
version=$(dpkg-query -W -f '${Version}' python3-boto3)
if [ "$(cat "$out/.python-boto3-installed" 2>/dev/null)" != "$version" ]; then
	for module in boto3 botocore s3transfer jmespath dateutil urllib3 certifi requests chardet charset_normalizer idna six.py; do
		if [ -e "$site/$module" ]; then
			cp -RL "$site/$module" "$boto/"
		fi
	done
	find "$boto/botocore/data" -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name sts -exec rm -rf {} +
	find "$boto" -name __pycache__ -prune -exec rm -rf {} +
	python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash "$boto"
	# Not for the example's own file, which may be edited: that byte code is never compared with its source.
	rm -rf "$boto/__pycache__"
	echo "$version" >"$out/.python-boto3-installed"
fi
