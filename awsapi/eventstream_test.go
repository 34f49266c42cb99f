package awsapi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/google/go-cmp/cmp"

	"thaw"
)

type tailFunc = func(context.Context, *cloudwatchlogs.StartLiveTailInput, *EventStream) error

// newTail makes the service logs with a live tail, and a server for it.
func newTail(t *testing.T, fn tailFunc) *httptest.Server {
	t.Helper()
	s, err := New("logs")
	if err != nil {
		t.Fatal(err)
	}
	s.Log = slog.New(slog.DiscardHandler)
	HandleStream(s, "StartLiveTail", fn, Event[types.LiveTailSessionStart]("sessionStart"), Event[types.LiveTailSessionUpdate]("sessionUpdate"))
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server
}

// group is a log group as a live tail names it.
const group = "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/f"

// follow starts a live tail with the SDK's client. It puts "stream-" before the host, which is no name of this machine's.
func follow(ctx context.Context, server *httptest.Server) (*cloudwatchlogs.StartLiveTailEventStream, error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	}}
	client := cloudwatchlogs.New(cloudwatchlogs.Options{
		BaseEndpoint: &server.URL, Region: region, Credentials: creds, RetryMaxAttempts: 1, HTTPClient: &http.Client{Transport: transport},
	})
	out, err := client.StartLiveTail(ctx, &cloudwatchlogs.StartLiveTailInput{LogGroupIdentifiers: []string{group}})
	if err != nil {
		return nil, err
	}
	return out.GetStream(), nil
}

func session() *types.LiveTailSessionStart {
	return &types.LiveTailSessionStart{SessionId: new("s"), LogGroupIdentifiers: []string{group}}
}

func lines() *types.LiveTailSessionUpdate {
	return &types.LiveTailSessionUpdate{
		SessionMetadata: &types.LiveTailSessionMetadata{Sampled: true},
		SessionResults:  []types.LiveTailSessionLogEvent{{Message: new("ä\n\"<"), Timestamp: new(int64(1_700_000_000_123)), LogStreamName: new("l")}},
	}
}

func TestEventStream(t *testing.T) {
	server := newTail(t, func(ctx context.Context, in *cloudwatchlogs.StartLiveTailInput, out *EventStream) error {
		if !cmp.Equal(in.LogGroupIdentifiers, []string{group}) || RequestFrom(ctx).Operation != "StartLiveTail" {
			return errors.New("another input")
		}
		if err := out.Send(session()); err != nil {
			return err
		}
		for range 2 {
			if err := out.Send(lines()); err != nil {
				return err
			}
		}
		return thaw.Errorf(thaw.CodeSessionTimeout, "Three hours are over.")
	})
	stream, err := follow(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var got []any
	for event := range stream.Events() {
		switch event := event.(type) {
		case *types.StartLiveTailResponseStreamMemberSessionStart:
			got = append(got, &event.Value)
		case *types.StartLiveTailResponseStreamMemberSessionUpdate:
			got = append(got, &event.Value)
		}
	}
	if diff := cmp.Diff([]any{session(), lines(), lines()}, got, same); diff != "" {
		t.Error(diff)
	}
	if e, ok := errors.AsType[*types.SessionTimeoutException](stream.Err()); !ok || *e.Message != "Three hours are over." {
		t.Errorf("the stream ended with %v", stream.Err())
	}
}

// TestEventStreamFailures shows errors before a stream has begun, which are any operation's, and such in a stream.
func TestEventStreamFailures(t *testing.T) {
	var fail error
	begin := false
	server := newTail(t, func(_ context.Context, _ *cloudwatchlogs.StartLiveTailInput, out *EventStream) error {
		if begin {
			if err := out.Begin(); err != nil {
				return err
			}
		}
		if fail == nil {
			panic("secret")
		}
		return fail
	})
	for _, c := range []struct {
		begin bool
		fail  error
		want  string
	}{
		{false, thaw.Errorf(thaw.CodeResourceNotFound, "No group."), "ResourceNotFoundException: No group."},
		{false, nil, "ServiceUnavailableException: The service failed to answer."},
		{true, thaw.Errorf(thaw.CodeSessionStreaming, "Broken."), "SessionStreamingException: Broken."},
		{true, thaw.Errorf(thaw.CodeInvalidParameter, "No such."), "InvalidParameterException: No such."}, // not in the stream's model
		{true, nil, "ServiceUnavailableException: The service failed to answer."},
	} {
		begin, fail = c.begin, c.fail
		stream, err := follow(t.Context(), server)
		if c.begin {
			if err != nil {
				t.Fatal(err)
			}
			for range stream.Events() {
				t.Error("an event")
			}
			err = stream.Err()
			stream.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v: %v", c, err)
		}
	}
}

// TestEventStreamEnds: the operation is told when its client has gone, and a deadline for the request does not end it.
func TestEventStreamEnds(t *testing.T) {
	ended := make(chan error, 1)
	s, err := New("logs")
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	HandleStream(s, "StartLiveTail", func(ctx context.Context, _ *cloudwatchlogs.StartLiveTailInput, out *EventStream) error {
		if err := out.Send(session()); err != nil {
			return err
		}
		select { // the deadline below would end ctx
		case <-ctx.Done():
			ended <- errors.New("ended before its client")
			return nil
		case <-time.After(100 * time.Millisecond):
		}
		close(ready)
		<-ctx.Done()
		ended <- nil
		return nil
	}, Event[types.LiveTailSessionStart]("sessionStart"))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		s.ServeHTTP(w, r)
	}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := follow(ctx, server)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	stream.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestHandleStreamRefusesMistakes(t *testing.T) {
	s := newService(t, "logs")
	fn := func(context.Context, *cloudwatchlogs.StartLiveTailInput, *EventStream) error { return nil }
	start := Event[types.LiveTailSessionStart]("sessionStart")
	HandleStream(s, "StartLiveTail", fn, start)
	for name, f := range map[string]func(){
		"registered twice": func() { HandleStream(s, "StartLiveTail", fn, start) },
		"no stream": func() {
			HandleStream(s, "GetLogEvents", func(context.Context, *cloudwatchlogs.GetLogEventsInput, *EventStream) error { return nil })
		},
		"unknown event": func() {
			HandleStream(newService(t, "logs"), "StartLiveTail", fn, Event[types.LiveTailSessionStart]("start"))
		},
		"another type": func() {
			HandleStream(newService(t, "logs"), "StartLiveTail", fn, Event[types.LiveTailSessionUpdate]("sessionStart"))
		},
		"unknown operation": func() { HandleStream(s, "StartTail", fn, start) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("accepted")
				}
			}()
			f()
		})
	}
}

// TestSendRefusesMistakes: what is no event of the operation does not open the stream.
func TestSendRefusesMistakes(t *testing.T) {
	server := newTail(t, func(_ context.Context, _ *cloudwatchlogs.StartLiveTailInput, out *EventStream) error {
		for _, event := range []any{nil, "x", types.LiveTailSessionStart{}, (*types.LiveTailSessionStart)(nil), &types.LogGroup{}} {
			if out.Send(event) == nil {
				t.Errorf("sent %v", event)
			}
		}
		return thaw.Errorf(thaw.CodeLimitExceeded, "x")
	})
	if _, err := follow(t.Context(), server); err == nil || !strings.Contains(err.Error(), "LimitExceeded") {
		t.Error(err)
	}
}

func TestBotocoreReadsEventStream(t *testing.T) {
	if err := exec.Command("python3", "-c", "import botocore.session").Run(); err != nil {
		t.Skip("python3 has no botocore here, so its reading cannot be tried")
	}
	server := newTail(t, func(_ context.Context, _ *cloudwatchlogs.StartLiveTailInput, out *EventStream) error {
		if err := errors.Join(out.Send(session()), out.Send(lines())); err != nil {
			return err
		}
		return thaw.Errorf(thaw.CodeSessionStreaming, "Broken.")
	})
	const script = `
import sys, botocore.session
from botocore.config import Config
from botocore.exceptions import EventStreamError
session = botocore.session.Session()
session.set_credentials("AKIDEXAMPLE0000", "secret")
logs = session.create_client("logs", region_name="eu-west-1", endpoint_url=sys.argv[1], config=Config(retries={"max_attempts": 0}, inject_host_prefix=False))
got = []
try:
    for event in logs.start_live_tail(logGroupIdentifiers=[sys.argv[2]])["responseStream"]:
        got.append(event)
    raise AssertionError("no error")
except EventStreamError as e:
    assert e.response["Error"] == {"Code": "SessionStreamingException", "Message": "Broken."}, e.response
assert got[0]["sessionStart"]["sessionId"] == "s", got
assert got[1]["sessionUpdate"]["sessionResults"] == [{"logStreamName": "l", "message": "ä\n\"<", "timestamp": 1700000000123}], got
`
	if out, err := exec.Command("python3", "-c", script, server.URL, group).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
