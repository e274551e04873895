package sandboxtest

// covered names for each key of a profile the case that looks at it, or says
// why no backend is asked.
var covered = map[string]string{
	"isolation":  "portable/an unknown tool is refused",
	"assurance":  "portable/the probe says what starts",
	"network":    "escape/no network",
	"filesystem": "conformance/grants",
	"env":        "portable/environment",
	"pass":       "compiling: a session's values make another guest of the plan, which starts as every other",
	"cwd":        "conformance/working folder",
	"syscalls":   "escape/denied system calls",
	"rate":       "routing: a call too many starts nothing",
	"cpu":        "portable/processor is bounded",
	"memory":     "portable/memory is bounded",
	"disk":       "conformance/limits are what the profile says",
	"processes":  "escape/fork-bomb",
	"timeout":    "portable/a loop is ended",
	"output":     "conformance/what is left beyond the output is named",
	"scope":      "conformance/session keeps its state",
}
