package bench

// A Rate is throughput.
type Rate struct{}

// A Memory is what guests hold.
type Memory struct{}

// A Growth is how p99 changes.
type Growth struct{}

// Calls are system calls of one run.
type Calls struct{}

// A Target is one of the targets.
type Target struct{}
