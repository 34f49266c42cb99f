package tests

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"thaw/tests/harness"
)

// TestNATSMapping maps a stream and a subject of a NATS server to functions, with the platform killed in between.
func TestNATSMapping(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for functions on the host's network")
	}
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	defer func() { srv.Shutdown(); srv.WaitForShutdown() }()
	if !srv.ReadyForConnections(harness.Patience) {
		t.Fatal("the NATS server does not come up")
	}
	nc, err := nats.Connect(srv.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}})
	if err != nil {
		t.Fatal(err)
	}
	// Its patience is short, so that what was in hand when the platform was killed comes soon.
	_, err = stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "thaw", AckPolicy: jetstream.AckExplicitPolicy, AckWait: 2 * time.Second, MaxDeliver: 8})
	if err != nil {
		t.Fatal(err)
	}
	x := newTorture(t)
	x.collector = newCollector(t)
	p := x.start()
	for name, endpoint := range map[string]string{
		kindStd: srv.ClientURL() + "?stream=ORDERS&consumer=thaw&retry=100ms&max_deliver=5", "core": srv.ClientURL() + "/news",
	} {
		harness.Deploy(t, x.lambda, &harness.Function{Name: name, Source: witness, Timeout: functionTimeout, Env: map[string]string{"COLLECTOR": x.address, "KIND": name}})
		out, err := x.lambda.CreateEventSourceMapping(t.Context(), &lambda.CreateEventSourceMappingInput{
			FunctionName: &name, BatchSize: aws.Int32(5),
			SelfManagedEventSource: &lambdatypes.SelfManagedEventSource{Endpoints: map[string][]string{"NATS": {endpoint}}},
			FunctionResponseTypes:  []lambdatypes.FunctionResponseType{lambdatypes.FunctionResponseTypeReportBatchItemFailures},
		})
		if err != nil {
			t.Fatalf("map %s: %v", endpoint, err)
		}
		harness.Eventually(t, "the mapping is enabled", func() bool {
			m, err := x.lambda.GetEventSourceMapping(t.Context(), &lambda.GetEventSourceMappingInput{UUID: out.UUID})
			if err != nil {
				t.Fatal(err)
			}
			return *m.State == "Enabled"
		})
	}
	_, err = x.lambda.CreateEventSourceMapping(t.Context(), &lambda.CreateEventSourceMappingInput{
		FunctionName: aws.String("core"), SelfManagedEventSource: &lambdatypes.SelfManagedEventSource{Endpoints: map[string][]string{"NATS": {"nats://nats:4222/a..b"}}},
	})
	if harness.Code(err) != "InvalidParameterValueException" {
		t.Errorf("a subject that is none: %v", err)
	}
	n := 0
	publish := func(count int) {
		t.Helper()
		for range count {
			id := fmt.Sprintf("ok-%d", n)
			if n%20 == 7 {
				id = fmt.Sprintf("poison-%d", n)
			}
			if _, err := js.Publish(t.Context(), "orders.new", []byte(id)); err != nil {
				t.Fatal(err)
			}
			x.accept(kindStd, id)
			n++
		}
	}
	told := func(kind, id string) int {
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.told[kind][id]
	}
	harness.Eventually(t, "the subject is listened to", func() bool {
		if err := nc.Publish("news", []byte("hello")); err != nil {
			t.Fatal(err)
		}
		return told("core", "hello") > 0
	})
	for range 3 {
		publish(100)
		<-time.After(200 * time.Millisecond) // some are under way
		p.Kill()
		publish(20)
		p = x.start()
	}
	harness.Eventually(t, "nothing of the stream waits any more", func() bool {
		for c := range stream.ListConsumers(t.Context()).Info() {
			if c.NumPending > 0 || c.NumAckPending > 0 {
				return false
			}
		}
		return true
	})
	for id := range x.accepted[kindStd] {
		if told(kindStd, id) == 0 {
			t.Errorf("%s was not processed", id)
		}
	}
	if times := told(kindStd, "poison-7"); times > 5 {
		t.Errorf("poison was delivered %d times", times)
	}
	p.Stop()
}
