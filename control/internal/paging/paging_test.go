package paging

import (
	"errors"
	"slices"
	"testing"
)

func same(s string) string { return s }

func TestPagesHoldEachItemOnce(t *testing.T) {
	all := []string{"a", "b", "c", "d", "e"}
	for size := 1; size <= 6; size++ {
		var seen []string
		var token *string
		for pages := 0; ; pages++ {
			page, next, err := Cut(all, same, token, size)
			if err != nil || len(page) > size || pages > len(all) {
				t.Fatalf("size %d: %v, %v", size, page, err)
			}
			seen = append(seen, page...)
			if token = next; token == nil {
				break
			}
		}
		if !slices.Equal(seen, all) {
			t.Errorf("size %d: %v", size, seen)
		}
	}
}

func TestPagesGoOnWhereOneEnded(t *testing.T) {
	_, next, err := Cut([]string{"a", "b", "c"}, same, nil, 2)
	if err != nil {
		t.Fatal(err)
	}
	page, _, err := Cut([]string{"a", "bb", "c"}, same, next, 2) // b is gone, bb is new
	if err != nil || !slices.Equal(page, []string{"bb", "c"}) {
		t.Errorf("%v, %v", page, err)
	}
	for _, bad := range []string{"", "*"} {
		if _, _, err := Cut([]string{"a"}, same, &bad, 2); !errors.Is(err, ErrToken) {
			t.Errorf("token %q: %v", bad, err)
		}
	}
}
