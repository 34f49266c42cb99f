package operation

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"thaw"
	"thaw/state"
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

func TestStoredTellsOfAFullDisk(t *testing.T) {
	full := fmt.Errorf("write record x: %w", state.ErrFull)
	if err := Stored(full, thaw.CodeInternalServer); thaw.CodeOf(err) != thaw.CodeInternalServer || !errors.Is(err, state.ErrFull) {
		t.Errorf("%v", err)
	}
	for _, err := range []error{nil, state.ErrNotFound} {
		if got := Stored(err, thaw.CodeInternalServer); !errors.Is(got, err) || got != nil && thaw.CodeOf(got) == thaw.CodeInternalServer {
			t.Errorf("%v became %v", err, got)
		}
	}
}

// FuzzAfter holds that a token is one that Token makes, or refused.
func FuzzAfter(f *testing.F) {
	for _, token := range []string{"", "YQ", "YQ==", "*", "\n", "_-8"} {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		key, err := After(&token)
		if err != nil {
			if !errors.Is(err, ErrToken) || key != "" {
				t.Errorf("%q: %q, %v", token, key, err)
			}
			return
		}
		if again, err := After(Token(key)); key == "" || err != nil || again != key {
			t.Errorf("%q is %q, and then %q, %v", token, key, again, err)
		}
	})
}
