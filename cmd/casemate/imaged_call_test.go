package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/casemate/casemate"
	"github.com/casemate/casemate/internal/testenv"
)

func digestText(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// layout writes an OCI layout with a shell, whose configuration asks for all that
// an image can ask for, and returns the digest of its manifest.
func layout(t *testing.T, dir, text string) string {
	t.Helper()
	shell, err := os.ReadFile("/bin/busybox")
	if err != nil {
		testenv.Require(t, "busybox", &testenv.Unsupported{What: "a static busybox", Why: err.Error(), Fix: "apt install busybox-static"})
	}
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	put := func(b []byte) string {
		d := digestText(b)
		if err := os.WriteFile(filepath.Join(blobs, strings.TrimPrefix(d, "sha256:")), b, 0o644); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`"digest": %q, "size": %d`, d, len(b))
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, data string) {
		h.Size = int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	add(tar.Header{Name: "bin/busybox", Mode: 0o755}, string(shell))
	for _, name := range []string{"sh", "cat", "ls", "id"} {
		add(tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, "")
	}
	add(tar.Header{Name: "etc/image", Mode: 0o644}, text)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer := put(b.Bytes())
	config := put(fmt.Appendf(nil, `{"architecture": "`+runtime.GOARCH+`", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [%q]},
		"config": {"Env": ["EVIL=1"], "User": "0:0", "Entrypoint": ["/bin/false"], "Cmd": ["/bin/false"], "WorkingDir": "/etc", "Volumes": {"/host": {}}, "Labels": {"mount": "/:/host"}}}`, digestText(b.Bytes())))
	manifest := put(fmt.Appendf(nil, `{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": {"mediaType": "application/vnd.oci.image.config.v1+json", %s}, "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", %s}]}`, config, layer))
	for name, text := range map[string]string{
		"oci-layout": `{"imageLayoutVersion": "1.0.0"}`,
		"index.json": `{"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", ` + manifest + `}]}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return strings.Split(manifest, `"`)[3]
}

// label-to-args: of an image its files count, and nothing that it says of itself;
// and they are those of the digest, or nothing runs.
func TestToolOfAnImage(t *testing.T) {
	work := workFolder(t)
	t.Cleanup(func() { exec.Command("chmod", "-R", "u+w", work).Run() })
	if b := doctored(t, work, nil, runscHere(t))["oci"]; !b.Available {
		testenv.Require(t, "oci", &testenv.Unsupported{What: "oci", Why: b.Fix})
	}
	image := filepath.Join(work, "image")
	digest := layout(t, image, "one")
	file := filepath.Join(work, "casemate.yaml")
	call := func(reference, isolation, command string) (casemate.Outcome, string, int) {
		t.Helper()
		config := "version: 1\ntools:\n  - name: x\n    run: {shell: {}}\n    image: \"" + reference + "\"\n    security: {isolation: " + isolation + "}\n"
		if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(testenv.Binaries(t).Casemate, "call", "--json", "x", "command="+command)
		cmd.Dir, cmd.Env = work, append(scriptEnv(t, work), runscHere(t), "CASEMATE_CONFIG="+file)
		out, _ := cmd.Output()
		var o casemate.Outcome
		if err := json.Unmarshal(out, &o); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		text := ""
		if o.Result != nil {
			for _, c := range o.Result.Content {
				text += c.Text
			}
		}
		return o, text, cmd.ProcessState.ExitCode()
	}

	const look = `cat /etc/image; echo; pwd; echo "evil=$EVIL"; ls -d /host /usr 2>&1; cat /proc/self/status`
	o, text, status := call("oci:./image@"+digest, "auto", look)
	if status != 0 || o.Backend != "oci" || !strings.HasPrefix(text, "one\n/tmp\nevil=\n") || !strings.Contains(text, "CapEff:\t0000000000000000") || !strings.Contains(text, "NoNewPrivs:\t1") {
		t.Errorf("exit %d, %s, %q", status, o.Backend, text)
	}
	if !strings.Contains(text, "/host: No such file") || !strings.Contains(text, "/usr: No such file") {
		t.Errorf("it sees a folder that is not of the image: %q", text)
	}

	refused := func(what, reference, isolation, why string) {
		t.Helper()
		o, text, status := call(reference, isolation, "cat /etc/image")
		if status != 4 && status != 2 && status != 3 || text != "" || o.Error == nil || !strings.Contains(strings.ToLower(o.Error.Message), why) || o.Error.Fix == "" {
			t.Errorf("%s: exit %d, %q, %+v", what, status, text, o.Error)
		}
	}
	refused("on process", "oci:./image@"+digest, "process", "process lacks images")
	refused("another digest", "oci:./image@sha256:"+strings.Repeat("0", 64), "oci", "digest")

	// Without a digest the first use pins it, and another image at that place is
	// not taken.
	if _, text, status := call("oci:./image", "oci", "cat /etc/image"); status != 0 || text != "one" {
		t.Errorf("without a digest: exit %d, %q", status, text)
	}
	lock, err := os.ReadFile(filepath.Join(work, "casemate.lock"))
	if err != nil || !strings.Contains(string(lock), digest) {
		t.Errorf("the lock: %v: %s", err, lock)
	}
	if err := os.RemoveAll(image); err != nil {
		t.Fatal(err)
	}
	layout(t, image, "two")
	if _, text, status := call("oci:./image", "oci", "cat /etc/image"); status != 0 || text != "one" {
		t.Errorf("with another image in its place: exit %d, %q", status, text)
	}
	rm := exec.Command(testenv.Binaries(t).Casemate, "image", "rm", digest)
	rm.Dir, rm.Env = work, scriptEnv(t, work)
	if out, err := rm.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	refused("a pinned image that is gone, with another in its place", "oci:./image", "oci", "digest")
}
