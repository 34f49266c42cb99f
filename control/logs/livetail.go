package logs

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/google/uuid"

	"thaw"
	"thaw/awsapi"
	"thaw/state"
	"thaw/telemetry"
	"thaw/telemetry/groups"
)

// Bounds of live tails, after the documentation of StartLiveTail and the quotas of CloudWatch Logs.
const (
	maxTails     = 15
	maxTailed    = 500     // events of one update
	maxTailBytes = 4 << 20 // of their messages; the clients take frames of 16 MB
	tailInterval = time.Second
	maxTailTime  = 3 * time.Hour
)

// tail gathers the events of one update. Of more than it takes, it keeps some at random.
type tail struct {
	mu     sync.Mutex
	events []types.LiveTailSessionLogEvent
	size   int // of their messages
	seen   int
}

func (t *tail) add(e *types.LiveTailSessionLogEvent) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen++
	if n := len(*e.Message); len(t.events) < maxTailed && t.size+n <= maxTailBytes {
		t.events = append(t.events, *e)
		t.size += n
	} else if i := rand.IntN(t.seen); i < len(t.events) { //nolint:gosec // which events are shown is no secret
		if size := t.size - len(*t.events[i].Message) + n; size <= maxTailBytes {
			t.events[i], t.size = *e, size
		}
	}
}

// update gives what was gathered since the last.
func (t *tail) update() *types.LiveTailSessionUpdate {
	t.mu.Lock()
	defer t.mu.Unlock()
	events, sampled := t.events, t.seen > len(t.events)
	t.events, t.size, t.seen = nil, 0, 0
	slices.SortStableFunc(events, func(a, b types.LiveTailSessionLogEvent) int { return int(*a.Timestamp - *b.Timestamp) })
	if events == nil {
		events = []types.LiveTailSessionLogEvent{}
	}
	return &types.LiveTailSessionUpdate{SessionMetadata: &types.LiveTailSessionMetadata{Sampled: sampled}, SessionResults: events}
}

func (a *API) startLiveTail(ctx context.Context, in *sdk.StartLiveTailInput, out *awsapi.EventStream) error {
	if len(in.LogGroupIdentifiers) > 1 && len(in.LogStreamNames)+len(in.LogStreamNamePrefixes) > 0 {
		return invalid("logStreamNames and logStreamNamePrefixes can be given only with one log group.")
	}
	if len(in.LogStreamNames) > 0 && len(in.LogStreamNamePrefixes) > 0 {
		return invalid("logStreamNames and logStreamNamePrefixes are mutually exclusive parameters.")
	}
	match, err := matcher(in.LogEventFilterPattern)
	if err != nil {
		return err
	}
	var names []string
	for _, identifier := range in.LogGroupIdentifiers {
		g, err := a.group(ctx, nil, &identifier)
		if err != nil {
			return err
		}
		if !slices.Contains(names, g.Name) {
			names = append(names, g.Name)
		}
	}
	meant := func(e *telemetry.Event) bool {
		return (match == nil || match(e)) && (len(in.LogStreamNames) == 0 || slices.Contains(in.LogStreamNames, e.Stream)) &&
			(len(in.LogStreamNamePrefixes) == 0 || slices.ContainsFunc(in.LogStreamNamePrefixes, func(p string) bool { return strings.HasPrefix(e.Stream, p) }))
	}
	if err := a.openTail(); err != nil {
		return err
	}
	defer a.closeTail()
	newest, err := a.cfg.Groups.Newest(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var t tail
	var following sync.WaitGroup
	defer following.Wait()
	defer cancel()
	broken := make(chan error, len(names))
	for _, name := range names {
		following.Go(func() {
			broken <- a.cfg.Groups.Follow(ctx, name, newest, func(_ uint64, events []groups.Event) error {
				for i := range events {
					if e := &events[i]; meant(&e.Event) {
						t.add(&types.LiveTailSessionLogEvent{
							LogGroupIdentifier: pointer(a.cfg.Account.ID + ":" + name), LogStreamName: &e.Stream, Message: pointer(e.Message),
							Timestamp: millis(e.Event.At), IngestionTime: millis(e.Stored),
						})
					}
				}
				return nil
			})
		})
	}
	err = out.Send(&types.LiveTailSessionStart{
		RequestId: pointer(awsapi.RequestFrom(ctx).ID), SessionId: pointer(uuid.NewString()), LogGroupIdentifiers: in.LogGroupIdentifiers,
		LogStreamNames: in.LogStreamNames, LogStreamNamePrefixes: in.LogStreamNamePrefixes, LogEventFilterPattern: in.LogEventFilterPattern,
	})
	if err != nil {
		return err
	}
	tick := time.NewTicker(tailInterval)
	defer tick.Stop()
	end := time.NewTimer(maxTailTime)
	defer end.Stop()
	for {
		select {
		case <-tick.C:
			if err := out.Send(t.update()); err != nil {
				return err
			}
		case <-end.C:
			return thaw.Errorf(thaw.CodeSessionTimeout, "The session was open for three hours. Start another one.")
		case <-a.stopped:
			return thaw.Errorf(thaw.CodeSessionStreaming, "The platform stops. Start another session when it is up again.")
		case err := <-broken:
			if ctx.Err() != nil || errors.Is(err, state.ErrClosed) {
				return nil
			}
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

func (a *API) openTail() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tails >= maxTails {
		return thaw.Errorf(thaw.CodeQuotaExceeded, "%d live tail sessions are open, as many as there can be. Close one first.", maxTails)
	}
	a.tails++
	return nil
}

func (a *API) closeTail() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tails--
}
