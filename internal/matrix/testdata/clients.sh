#!/bin/sh
# clients.sh DEST NAME… prepares the clients and frameworks of those names, from
# the ordinary registries, and does nothing where they are there.
set -eu
dest=${1:?usage: clients.sh DEST NAME...}
shift
case $(uname -m) in
x86_64) arch=x64 ;;
aarch64) arch=arm64 ;;
*) echo "clients.sh: no node for $(uname -m)" >&2; exit 1 ;;
esac
mkdir -p "$dest"
dest=$(cd "$dest" && pwd)

# prepare NAME VERSIONS COMMAND… makes the folder NAME once for these versions; one
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
	# shellcheck disable=SC2086 # a list of packages
	"$@" "$dest/$name" $version >&2
	echo "$version" >"$stamp"
}

npm_client() {
	dir=$1
	shift
	npm install --prefix "$dir" --ignore-scripts --no-audit --no-fund --loglevel=error "$@"
}

python_client() {
	dir=$1
	shift
	python3 -m venv "$dir"
	"$dir/bin/pip" install --quiet --disable-pip-version-check --only-binary=:all: "$@"
}

for client in "$@"; do
	case $client in
	mcp1) prepare mcp1 'mcp==1.30.0' python_client ;;
	mcp2) prepare mcp2 'mcp==2.3.0' python_client ;;
	fastmcp) prepare fastmcp 'fastmcp==4.2.3' python_client ;;
	langchain) prepare langchain 'langchain-mcp-adapters==0.3.2 langgraph==1.2.24' python_client ;;
	llamaindex) prepare llamaindex 'llama-index-tools-mcp==0.6.0' python_client ;;
	openai) prepare openai 'openai-agents==0.24.0' python_client ;;
	autogen) prepare autogen 'autogen-ext[mcp]==0.7.5 mcp<2' python_client ;;
	pydantic) prepare pydantic 'pydantic-ai-slim[mcp]==2.68.0' python_client ;;
	typescript) prepare typescript '@modelcontextprotocol/sdk@1.32.2' npm_client ;;
	inspector) prepare inspector "node-linux-$arch@22.23.3 @modelcontextprotocol/inspector@2.12.0" npm_client ;; # needs a newer node than many hosts have
	claude) prepare claude '@anthropic-ai/claude-code@2.1.197' npm_client ;;
	codex) prepare codex '@openai/codex@0.169.0' npm_client ;;
	*)
		echo "clients.sh: no client is called $client" >&2
		exit 2
		;;
	esac
done
