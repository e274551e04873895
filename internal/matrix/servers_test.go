package matrix

// A call is one call of a tool. In its arguments, %DATA% is the server's
// folder in the sandbox, %KEY% a file of the host outside it that holds a canary,
// %OUTSIDE% the folder of that file, and %PORT% a port of the host's loopback at
// which something listens.
type call struct {
	tool, args string
	want       string // a regular expression that the answer's text matches
}

// A danger is a call that does harm where the server runs bare. The answer
// must not hold the canary, nothing may be written to %OUTSIDE%, and nothing may
// reach %PORT%.
type danger struct {
	what, tool, args string
}

// A split gives one tool of a server its folder to read and all the others to write.
type split struct {
	reader, args string // it must not write
	writer       call   // the same, and it does
	file         string // of the folder, that only the writer makes
}

// A server is one that others wrote.
type server struct {
	name     string
	command  string // as a YAML list
	env      string // as a YAML map
	memory   string // 512MiB where it is empty
	extra    string // more of its security, as YAML
	files    map[string]string
	ordinary call
	danger   danger
	split    *split
	always   bool   // in every test run, not only in make matrix
	why      string // there is no danger, or no ordinary call
}

func servers() []server {
	return []server{
		{name: "npm @modelcontextprotocol/server-filesystem", command: `[npx, -y, "@modelcontextprotocol/server-filesystem@2026.8.31", /]`, always: true,
			ordinary: call{"read_text_file", `{"path":"%DATA%/a.txt"}`, "^alpha"},
			danger:   danger{"reads a key outside its folder", "read_text_file", `{"path":"%KEY%"}`},
			split:    &split{"create_directory", `{"path":"%DATA%/new"}`, call{"write_file", `{"path":"%DATA%/new","content":"x"}`, ""}, "new"}},
		{name: "npm @modelcontextprotocol/server-everything", command: `[npx, -y, "@modelcontextprotocol/server-everything@2026.8.31"]`, always: true,
			ordinary: call{"get-sum", `{"a":40,"b":2}`, "42"},
			danger:   danger{"prints the client's environment", "get-env", `{}`}},
		{name: "npm @modelcontextprotocol/server-memory", command: `[npx, -y, "@modelcontextprotocol/server-memory@2026.8.31"]`, env: `{MEMORY_FILE_PATH: %OUTSIDE%/memory.json}`,
			ordinary: call{"read_graph", `{}`, "entities"},
			danger:   danger{"writes its file outside its folder", "create_entities", `{"entities":[{"name":"CANARY","entityType":"t","observations":["o"]}]}`}},
		{name: "npm @modelcontextprotocol/server-sequential-thinking", command: `[npx, -y, "@modelcontextprotocol/server-sequential-thinking@2026.8.31"]`,
			ordinary: call{"sequentialthinking", `{"thought":"one","nextThoughtNeeded":false,"thoughtNumber":1,"totalThoughts":1}`, "thoughtNumber"},
			why:      "its one tool touches nothing"},
		{name: "npm @modelcontextprotocol/server-pdf", command: `[npx, -y, "@modelcontextprotocol/server-pdf@2.0.4", --stdio]`,
			ordinary: call{"list_pdfs", `{}`, "(?i)pdf"},
			danger:   danger{"fetches a service of the host", "read_pdf_bytes", `{"url":"http://127.0.0.1:%PORT%/x.pdf"}`}},
		{name: "npm @wonderwhy-er/desktop-commander", command: `[npx, -y, "@wonderwhy-er/desktop-commander@0.2.52"]`, memory: "1GiB", always: true,
			ordinary: call{"start_process", `{"command":"cat %DATA%/a.txt","timeout_ms":8000}`, "alpha"},
			danger:   danger{"runs a program on a key", "start_process", `{"command":"cat %KEY%; echo x > %OUTSIDE%/x; exec 3<>/dev/tcp/127.0.0.1/%PORT%","timeout_ms":8000}`},
			split:    &split{"start_process", `{"command":"echo x > %DATA%/new","timeout_ms":8000}`, call{"write_file", `{"path":"%DATA%/new","content":"x"}`, ""}, "new"}},
		{name: "npm @cyanheads/git-mcp-server", command: `[npx, -y, "@cyanheads/git-mcp-server@2.15.3"]`, memory: "1GiB",
			ordinary: call{"git_init", `{"path":"%DATA%/repo"}`, "(?i)repo|init"},
			danger:   danger{"clones over the network of the host", "git_clone", `{"url":"http://127.0.0.1:%PORT%/x.git","path":"%DATA%/clone"}`}},
		{name: "npm mcp-server-code-runner", command: `[npx, -y, "mcp-server-code-runner@0.1.8"]`,
			ordinary: call{"run-code", `{"languageId":"javascript","code":"console.log(6*7)"}`, "42"},
			danger:   danger{"runs code that reads a key", "run-code", `{"languageId":"javascript","code":"console.log(require('fs').readFileSync('%KEY%','utf8'))"}`}},
		{name: "npm mcp-server-commands", command: `[npx, -y, "mcp-server-commands@0.5.0"]`, always: true,
			ordinary: call{"run_command", `{"command":"cat %DATA%/a.txt"}`, "alpha"},
			danger:   danger{"runs a program on a key", "run_command", `{"command":"cat %KEY%; echo x > %OUTSIDE%/x; bash -c 'exec 3<>/dev/tcp/127.0.0.1/%PORT%'"}`}},
		{name: "npm @negokaz/excel-mcp-server", command: `[npx, -y, "@negokaz/excel-mcp-server@0.12.0"]`, memory: "1GiB",
			ordinary: call{"excel_read_sheet", `{"fileAbsolutePath":"%DATA%/a.xlsx","sheetName":"s"}`, "alpha"},
			danger:   danger{"reads a document outside its folder", "excel_read_sheet", `{"fileAbsolutePath":"%OUTSIDE%/key.xlsx","sheetName":"s"}`}},
		{name: "npm @eslint/mcp", command: `[npx, -y, "@eslint/mcp@0.3.13"]`, memory: "1GiB", extra: "cwd: /data",
			files:    map[string]string{"eslint.config.js": "module.exports = [{rules: {\"no-undef\": 2}}];\n", "evil/eslint.config.js": "module.exports = [{rules: {}}]; throw new Error(require('fs').readFileSync('%KEY%', 'utf8'));\n", "evil/b.js": "1\n", "b.js": "missing();\n"},
			ordinary: call{"lint-files", `{"filePaths":["%DATA%/b.js"]}`, "no-undef|b.js"},
			danger:   danger{"runs a configuration that reads a key", "lint-files", `{"filePaths":["%DATA%/evil/b.js"]}`}},
		{name: "npm kubernetes-mcp-server", command: `[npx, -y, "kubernetes-mcp-server@0.0.67", --kubeconfig, /data/kube]`, memory: "1GiB",
			files:    map[string]string{"kube": `{"apiVersion":"v1","kind":"Config","clusters":[{"name":"alpha","cluster":{"server":"http://127.0.0.1:%PORT%"}}],"users":[{"name":"u","user":{"token":"t"}}],"contexts":[{"name":"c","context":{"cluster":"alpha","user":"u"}}],"current-context":"c"}`},
			ordinary: call{"configuration_view", `{"minified":false}`, "alpha"},
			danger:   danger{"connects to a service of the host", "namespaces_list", `{}`}},
		{name: "PyPI mcp-server-git", command: `[uvx, "mcp-server-git==2026.10.19"]`, always: true,
			ordinary: call{"git_log", `{"repo_path":"%DATA%/repo"}`, "first"},
			danger:   danger{"reads a repository outside its folder", "git_log", `{"repo_path":"%OUTSIDE%/repo"}`}},
		{name: "PyPI mcp-server-time", command: `[uvx, "mcp-server-time==2026.10.19", --local-timezone, UTC]`, always: true,
			ordinary: call{"convert_time", `{"source_timezone":"UTC","time":"12:00","target_timezone":"Asia/Tokyo"}`, "21:00"},
			why:      "its tools touch nothing"},
		{name: "PyPI mcp-server-fetch", command: `[uvx, "mcp-server-fetch==2026.10.24", --ignore-robots-txt]`,
			danger: danger{"fetches a service of the host", "fetch", `{"url":"http://127.0.0.1:%PORT%/","raw":true}`},
			why:    "it needs a network, which profiles do not give yet"},
		{name: "PyPI mcp-server-sqlite", command: `[uvx, --with, "mcp<2", "mcp-server-sqlite==2025.4.25", --db-path, /data/x.db]`,
			ordinary: call{"create_table", `{"query":"CREATE TABLE t (a)"}`, "(?i)created"},
			danger:   danger{"writes outside its folder", "write_query", `{"query":"ATTACH DATABASE '%OUTSIDE%/x.db' AS o"}`}},
		{name: "PyPI mcp-shell-server", command: `[uvx, "mcp-shell-server==1.1.14"]`, env: `{ALLOW_COMMANDS: cat}`, // of several its description tells the order of a set, another each time
			ordinary: call{"shell_execute", `{"command":["cat","/data/a.txt"],"directory":"/data"}`, "alpha"},
			danger:   danger{"runs a program on a key", "shell_execute", `{"command":["cat","%KEY%"],"directory":"/tmp"}`}},
		{name: "PyPI cli-mcp-server", command: `[uvx, --with, "mcp<2", "cli-mcp-server==0.2.5"]`, env: `{ALLOWED_DIR: /, ALLOWED_COMMANDS: all, ALLOWED_FLAGS: all}`,
			ordinary: call{"run_command", `{"command":"cat /data/a.txt"}`, "alpha"},
			danger:   danger{"runs a program on a key", "run_command", `{"command":"cat %KEY%"}`}},
		{name: "PyPI mcp-python-interpreter", command: `[uvx, --with, "mcp<2", "mcp-python-interpreter==1.2.3", --dir, /data]`,
			ordinary: call{"run_python_code", `{"code":"print(6*7)"}`, "42"},
			danger:   danger{"runs code that reads a key", "run_python_code", `{"code":"print(open('%KEY%').read())"}`},
			split:    &split{"run_python_code", `{"code":"open('/data/new','w').write('x')"}`, call{"write_file", `{"file_path":"new","content":"x"}`, ""}, "new"}},
		{name: "PyPI mcp-server-motherduck", command: `[uvx, "mcp-server-motherduck==1.1.0", --db-path, ":memory:", --read-write]`, memory: "1GiB",
			ordinary: call{"execute_query", `{"sql":"SELECT 6*7 AS x"}`, "42"},
			danger:   danger{"reads a key by SQL", "execute_query", `{"sql":"SELECT * FROM read_text('%KEY%')"}`}},
		{name: "PyPI mcp-alchemy", command: `[uvx, "mcp-alchemy==2026.10.15.202659"]`, env: `{DB_URL: "sqlite:////data/y.db"}`,
			ordinary: call{"execute_query", `{"query":"SELECT 6*7 AS x"}`, "42"},
			danger:   danger{"writes outside its folder", "execute_query", `{"query":"ATTACH DATABASE '%OUTSIDE%/x.db' AS o"}`}},
		{name: "PyPI mcp-text-editor", command: `[uvx, --with, "mcp<2", "mcp-text-editor==1.0.2"]`,
			ordinary: call{"get_text_file_contents", `{"files":[{"file_path":"/data/a.txt","ranges":[{"start":1,"end":null}]}]}`, "alpha"},
			danger:   danger{"reads a key", "get_text_file_contents", `{"files":[{"file_path":"%KEY%","ranges":[{"start":1,"end":null}]}]}`}},
		{name: "PyPI mcp-server-calculator", command: `[uvx, "mcp-server-calculator==0.2.1"]`,
			ordinary: call{"calculate", `{"expression":"6*7"}`, "42"},
			why:      "its one tool touches nothing"},
		{name: "PyPI redis-mcp-server", command: `[uvx, "redis-mcp-server==0.5.1", --url, "redis://127.0.0.1:%PORT%/0"]`,
			danger: danger{"connects to a service of the host", "get", `{"key":"x"}`},
			why:    "it needs a network, which profiles do not give yet"},
		{name: "npm @modelcontextprotocol/server-postgres", command: `[npx, -y, "@modelcontextprotocol/server-postgres@0.6.2", "postgresql://x@127.0.0.1:%PORT%/x"]`,
			danger: danger{"connects to a service of the host", "query", `{"sql":"select 1"}`},
			why:    "it needs a network, which profiles do not give yet"},
		{name: "PyPI markitdown-mcp", command: `[uvx, "markitdown-mcp==0.0.1a8"]`, memory: "1GiB",
			files:    map[string]string{"a.html": "<h1>alpha</h1>"},
			ordinary: call{"convert_to_markdown", `{"uri":"file:///data/a.html"}`, "alpha"},
			danger:   danger{"reads a key as a document", "convert_to_markdown", `{"uri":"file://%KEY%"}`}},
	}
}
