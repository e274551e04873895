// Package nearest finds the name that somebody meant, for messages.
package nearest

import "strings"

// To returns the candidate with the smallest edit distance to s, or "" if
// none is near: at most two edits, and at most a third of its letters.
func To(s string, candidates []string) string {
	if len(s) > 64 {
		return ""
	}
	best, at := "", 3
	for _, c := range candidates {
		limit := min(2, max(1, len(c)/3))
		d := distance(strings.ToLower(s), c)
		if d <= limit && d < at && d < len(c) {
			best, at = c, d
		}
	}
	return best
}

// distance is the edit distance of Damerau (a swap of neighbours counts one).
func distance(a, b string) int {
	prev2, prev, cur := []int(nil), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if prev2 != nil && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, make([]int, len(b)+1)
	}
	return prev[len(b)]
}
