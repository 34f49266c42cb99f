package logs

import (
	"testing"

	"thaw/telemetry/groups"
)

func FuzzPlace(f *testing.F) {
	f.Add(*forward(groups.Position{At: 1, Sequence: 2, Number: 3}))
	f.Add(*backward(groups.Last))
	f.Add("f//s")
	f.Fuzz(func(t *testing.T, token string) {
		place, back, err := readPlace(token)
		if err != nil {
			return
		}
		again := forward(place)
		if back {
			again = backward(place)
		}
		if p, b, err := readPlace(*again); err != nil || p != place || b != back {
			t.Errorf("%q: %v %v, then %v %v, %v", token, place, back, p, b, err)
		}
	})
}
