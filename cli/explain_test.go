package cli

import (
	"testing"
	"unicode/utf8"
)

// TestBar draws what no platform should tell.
func TestBar(t *testing.T) {
	const day = 86_400_000_000
	for _, test := range []struct{ at, length, total int64 }{
		{0, 0, 0}, {0, 0, 1}, {0, 1, 1}, {day, day, 1}, {0, day, 1}, {day, 0, day}, {day / 2, day, day}, {1, 1, day},
	} {
		if got := utf8.RuneCountInString(bar(test.at, test.length, test.total)); got > barWidth || (got == 0) != (test.total == 0) {
			t.Errorf("%+v: %d columns", test, got)
		}
	}
}
