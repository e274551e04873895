#!/bin/sh
# clients.sh DEST prepares the real MCP clients that the tests of this package
# drive, from the ordinary registries, and does nothing where they are there.
set -eu
dest=${1:?usage: clients.sh DEST}

inspector=2.12.0    # needs a newer node than many hosts have, so:
node=22.23.3
python1=1.30.0
python2=2.3.0

case $(uname -m) in
x86_64) arch=x64 ;;
aarch64) arch=arm64 ;;
*) echo "clients.sh: no node for $(uname -m)" >&2; exit 1 ;;
esac

mkdir -p "$dest"
dest=$(cd "$dest" && pwd)

# prepare NAME VERSION COMMAND… makes the folder NAME once for a version; one
# that was left half made is made again.
prepare() {
	name=$1 stamp=$dest/$1/.version version=$2
	shift 2
	if [ "$(cat "$stamp" 2>/dev/null)" = "$version" ]; then
		return
	fi
	echo "clients.sh: $name $version" >&2
	rm -rf "${dest:?}/$name"
	mkdir "$dest/$name"
	"$@" >&2
	echo "$version" >"$stamp"
}

node_clients() {
	npm install --prefix "$dest/node" --ignore-scripts --no-audit --no-fund --loglevel=error \
		"node-linux-$arch@$node" "@modelcontextprotocol/inspector@$inspector"
}

python_client() {
	python3 -m venv "$dest/$1"
	"$dest/$1/bin/pip" install --quiet --disable-pip-version-check "mcp==$2"
}

prepare node "$node-$inspector" node_clients
prepare python1 "$python1" python_client python1 "$python1"
prepare python2 "$python2" python_client python2 "$python2"
