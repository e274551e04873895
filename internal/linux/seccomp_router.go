package linux

// RouterFilter is the filter of the router process.
func RouterFilter() Filter { return Filter{} }
