package state

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestLogsFollow(t *testing.T) {
	s := open(t, Config{Dir: t.TempDir()})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for i := range 10 {
		if err := s.PublishLog("/aws/lambda/f", fmt.Appendf(nil, "line %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	done := errors.New("done")
	err := s.ReadLogs(ctx, "/aws/lambda/f", time.Time{}, true, func(_ time.Time, data []byte) error {
		if string(data) != fmt.Sprintf("line %d", n) {
			t.Errorf("event %d is %q", n, data)
		}
		if n++; n == 10 {
			return done
		}
		return nil
	})
	if err != done {
		t.Fatal(err)
	}
}
