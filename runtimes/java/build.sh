#!/usr/bin/env bash
# Builds the Java runtime client: runtimes/bootstrap/bootstrap.jar, or the file named as the first argument. The same
# sources give the same bytes with every JDK 17, which is what the checked-in jar is made with.
set -euo pipefail
cd "$(dirname "$0")"
out=$(realpath -m "${1:-../bootstrap/bootstrap.jar}")

jdk=
for home in ${JAVA_HOME:+"$JAVA_HOME"} /usr/lib/jvm/*; do
	if [ -x "$home/bin/javac" ] && [[ $("$home/bin/javac" -version 2>&1) == *"javac 17."* ]]; then
		jdk=$home
		break
	fi
done
if [ -z "$jdk" ]; then
	echo "runtimes/java/build.sh: needs a JDK 17, in JAVA_HOME or /usr/lib/jvm" >&2
	exit 3
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
find src -name '*.java' | LC_ALL=C sort >"$work/sources"
"$jdk/bin/javac" --release 8 -Xlint:all,-options,-serial -Werror -encoding UTF-8 -g:source,lines -d "$work/classes" @"$work/sources"
# What Java 8 could not load; it is asked for by name where it can be.
find src16 -name '*.java' | LC_ALL=C sort >"$work/sources16"
"$jdk/bin/javac" --release 16 -Xlint:all,-options,-serial -Werror -encoding UTF-8 -g:source,lines -cp "$work/classes" -d "$work/classes" @"$work/sources16"
cp -r src/META-INF "$work/classes/"
# The manifest is an entry like the others, as jar writes the JDK's name into its own. Not compressed: the JVM reads it faster.
(
	cd "$work/classes"
	{
		echo META-INF/MANIFEST.MF
		find . -name '*.class' | sed 's|^\./||' | LC_ALL=C sort
	} >"$work/list"
	"$jdk/bin/jar" --create --file "$work/new.jar" --no-compress --no-manifest --date 2020-01-01T00:00:00Z @"$work/list"
)
chmod 644 "$work/new.jar"
mv "$work/new.jar" "$out"
