package state

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type role struct {
	Name string
	Tags map[string]string
}

func TestRecords(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	ctx := t.Context()
	roles, users := s.Records("role"), s.Records("user")
	want := role{"r", map[string]string{"k": "v"}}
	if err := roles.Create(ctx, "r", want); err != nil {
		t.Fatal(err)
	}
	if err := roles.Create(ctx, "r", role{}); !errors.Is(err, ErrExists) {
		t.Errorf("second create: %v", err)
	}
	var got role
	if err := roles.Get(ctx, "r", &got); err != nil || !cmp.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, err := range []error{users.Get(ctx, "r", &got), users.Delete(ctx, "r"), roles.Get(ctx, "R", &got)} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("record of another kind or case: %v", err)
		}
	}
	if _, err := UpdateRecord(ctx, users, "r", func(*role) error { return nil }); !errors.Is(err, ErrNotFound) {
		t.Errorf("update of nothing: %v", err)
	}
	if err := roles.Delete(ctx, "r"); err != nil {
		t.Fatal(err)
	}
	if err := roles.Get(ctx, "r", &got); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted record: %v", err)
	}
	if err := roles.Create(ctx, "r", want); err != nil {
		t.Errorf("create after delete: %v", err)
	}
}

func TestUpdateRecordStartsFromNothingEachTime(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	ctx := t.Context()
	roles := s.Records("role")
	if err := roles.Put(ctx, "r", role{Tags: map[string]string{"old": "1"}}); err != nil {
		t.Fatal(err)
	}
	runs := 0
	got, err := UpdateRecord(ctx, roles, "r", func(r *role) error {
		if runs++; runs == 1 {
			if err := roles.Put(ctx, "r", role{Tags: map[string]string{"new": "1"}}); err != nil {
				return err
			}
		}
		r.Name = "named"
		return nil
	})
	want := &role{"named", map[string]string{"new": "1"}}
	if err != nil || runs != 2 || !cmp.Equal(got, want) {
		t.Fatalf("after %d runs: %+v, %v", runs, got, err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				if _, err := UpdateRecord(ctx, roles, "r", func(r *role) error { r.Name += "x"; return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := roles.Get(ctx, "r", got); err != nil || got.Name != "named"+strings.Repeat("x", 80) {
		t.Fatalf("%q, %v", got.Name, err)
	}
}

func TestRecordKeysAreAnyText(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	ctx := t.Context()
	records := s.Records("any")
	keys := []string{" ", "*", ".", "..", "=", "=41", ">", "A", "a", "a.b", "arn:aws:iam::1:role/x", "ä", "\x00", "\xff", strings.Repeat(":", maxName)}
	for _, key := range keys {
		if err := records.Create(ctx, key, key+"!"); err != nil {
			t.Errorf("create %q: %v", key, err)
		}
	}
	list, err := records.List(ctx, "")
	if err != nil || len(list) != len(keys) {
		t.Fatalf("%d of %d records listed, %v", len(list), len(keys), err)
	}
	for i, r := range list {
		if i > 0 && list[i-1].Key >= r.Key {
			t.Errorf("%q comes after %q", r.Key, list[i-1].Key)
		}
	}
	list, err = records.List(ctx, "a")
	if err != nil || len(list) != 3 || list[1].Key != "a.b" || string(list[1].Value) != `"a.b!"` {
		t.Errorf("records from a: %q, %v", list, err)
	}
	for _, key := range []string{"", strings.Repeat("x", maxName+1)} {
		if err := records.Put(ctx, key, 1); err == nil {
			t.Errorf("key of %d bytes is taken", len(key))
		}
	}
}

func FuzzEscapeName(f *testing.F) {
	for _, s := range []string{"/aws/lambda/f", "=", "a b", "\xff\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		token, err := escapeName(name)
		if err != nil {
			return
		}
		if strings.ContainsAny(token, ".*> \t\r\n\x00") {
			t.Errorf("%q becomes %q, which is not one token", name, token)
		}
		if back, err := unescapeName(token); err != nil || back != name {
			t.Errorf("%q becomes %q and then %q, %v", name, token, back, err)
		}
	})
}

func FuzzUnescapeName(f *testing.F) {
	f.Add("=4")
	f.Add("=zz")
	f.Fuzz(func(t *testing.T, token string) { unescapeName(token) })
}

func TestEachRecord(t *testing.T) {
	ctx := t.Context()
	r := open(t, Config{Dir: t.TempDir()}).Records("thing")
	for _, key := range []string{"a", "b", "gone"} {
		if err := r.Create(ctx, key, key); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Delete(ctx, "gone"); err != nil {
		t.Fatal(err)
	}
	var seen []string
	if err := r.Each(ctx, func(record Record) error { seen = append(seen, record.Key+string(record.Value)); return nil }); err != nil {
		t.Fatal(err)
	}
	slices.Sort(seen)
	if !slices.Equal(seen, []string{`a"a"`, `b"b"`}) {
		t.Errorf("%q", seen)
	}
	enough, calls := errors.New("enough"), 0
	if err := r.Each(ctx, func(Record) error { calls++; return enough }); !errors.Is(err, enough) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}
