package tests

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-cmp/cmp"

	"thaw/internal/ownbody"
	"thaw/tests/harness"
)

// killRounds is how often the platform is killed while it is written to.
const killRounds = 16

// durable is what a writer has been told about one function and its role, and what the platform must then say.
type durable struct {
	Exists      bool
	Code        int // what its handler answers
	Description string
	Tags        map[string]string
	Statements  map[string]bool
	Role        string // description of the role of the same name; empty: there is none
}

func (d durable) clone() durable {
	d.Tags, d.Statements = maps.Clone(d.Tags), maps.Clone(d.Statements)
	return d
}

// durableFunction is one function with its one writer.
type durableFunction struct {
	name string
	// acknowledged is what the last answers said; doubt, if not nil, is what the request that got no answer asked for.
	acknowledged durable
	doubt        *durable
	dirty        bool // written to since its handler last answered
	random       *rand.Rand
	next         int
	writes       int
}

// clients of one life of the platform.
type clients struct {
	lambda *lambda.Client
	iam    *iam.Client
}

func clientsOf(p *harness.Platform) clients {
	return clients{
		lambda: p.Lambda(),
		iam: iam.New(iam.Options{
			BaseEndpoint: aws.String(p.URL), Region: "us-east-1", RetryMaxAttempts: 1, HTTPClient: ownbody.Client{},
			Credentials: credentials.NewStaticCredentialsProvider("thaw-test-access-key", "thaw-test-secret-key", ""),
		}),
	}
}

const assumePolicy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

// numbered is a function that answers with a number.
func numbered(t testing.TB, n int) []byte {
	return harness.Zip(t, map[string]string{"app.py": fmt.Sprintf("def handler(event, context):\n    return %d\n", n)})
}

// write makes one random change. It reports false when the platform has gone.
func (f *durableFunction) write(ctx context.Context, t testing.TB, c clients) bool {
	after := f.acknowledged.clone()
	f.next++
	n, tag := f.next, "t"+strconv.Itoa(f.random.IntN(4))
	arn := "arn:aws:lambda:us-east-1:000000000000:function:" + f.name
	var err error
	kind := f.random.IntN(10)
	switch {
	case kind == 9 && after.Role == "":
		after.Role = "r" + strconv.Itoa(n)
		_, err = c.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: &f.name, AssumeRolePolicyDocument: aws.String(assumePolicy), Description: &after.Role})
	case kind == 9 && n%3 == 0:
		after.Role = ""
		_, err = c.iam.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: &f.name})
	case kind == 9:
		after.Role = "r" + strconv.Itoa(n)
		_, err = c.iam.UpdateRole(ctx, &iam.UpdateRoleInput{RoleName: &f.name, Description: &after.Role})
	case !after.Exists:
		after = durable{Exists: true, Code: n, Description: "d" + strconv.Itoa(n), Role: after.Role, Tags: map[string]string{}, Statements: map[string]bool{}}
		in := (&harness.Function{Name: f.name, Zip: numbered(t, n)}).Input(t)
		in.Description = &after.Description
		_, err = c.lambda.CreateFunction(ctx, in)
	case kind < 3:
		after.Code = n
		_, err = c.lambda.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: &f.name, ZipFile: numbered(t, n)})
	case kind < 5:
		after.Description = "d" + strconv.Itoa(n)
		_, err = c.lambda.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: &f.name, Description: &after.Description})
	case kind < 6 && after.Tags[tag] == "":
		after.Tags[tag] = strconv.Itoa(n)
		_, err = c.lambda.TagResource(ctx, &lambda.TagResourceInput{Resource: &arn, Tags: map[string]string{tag: after.Tags[tag]}})
	case kind < 6:
		delete(after.Tags, tag)
		_, err = c.lambda.UntagResource(ctx, &lambda.UntagResourceInput{Resource: &arn, TagKeys: []string{tag}})
	case kind < 8 && !after.Statements[tag]:
		after.Statements[tag] = true
		_, err = c.lambda.AddPermission(ctx, &lambda.AddPermissionInput{
			FunctionName: &f.name, StatementId: &tag, Action: aws.String("lambda:InvokeFunction"), Principal: aws.String("s3.amazonaws.com"),
		})
	case kind < 8:
		delete(after.Statements, tag)
		_, err = c.lambda.RemovePermission(ctx, &lambda.RemovePermissionInput{FunctionName: &f.name, StatementId: &tag})
	default:
		after = durable{Role: after.Role}
		_, err = c.lambda.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &f.name})
	}
	var gone *url.Error
	switch {
	case err == nil:
		f.acknowledged, f.dirty = after, true
		f.writes++
		return true
	case harness.Code(err) == "ResourceConflictException":
		return true // its last update is under way
	case ctx.Err() != nil || errors.As(err, &gone) || harness.Code(err) == "":
		f.doubt, f.dirty = &after, true
		return false
	default:
		t.Errorf("%s: %v", f.name, err)
		return false
	}
}

// readBack is what the platform says of a function and its role.
func (f *durableFunction) readBack(t testing.TB, c clients) durable {
	t.Helper()
	var d durable
	role, err := c.iam.GetRole(t.Context(), &iam.GetRoleInput{RoleName: &f.name})
	switch {
	case err == nil:
		d.Role = aws.ToString(role.Role.Description)
	case harness.Code(err) != "NoSuchEntity":
		t.Fatalf("role %s: %v", f.name, err)
	}
	out, err := c.lambda.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: &f.name})
	if harness.Code(err) == "ResourceNotFoundException" {
		return d
	}
	if err != nil {
		t.Fatalf("function %s: %v", f.name, err)
	}
	d.Exists, d.Description = true, aws.ToString(out.Configuration.Description)
	d.Tags, d.Statements = map[string]string{}, map[string]bool{}
	maps.Copy(d.Tags, out.Tags)
	for _, candidate := range []*durable{&f.acknowledged, f.doubt} {
		if candidate != nil && candidate.Exists && aws.ToString(out.Configuration.CodeSha256) == sha256Of(numbered(t, candidate.Code)) {
			d.Code = candidate.Code
		}
	}
	policy, err := c.lambda.GetPolicy(t.Context(), &lambda.GetPolicyInput{FunctionName: &f.name})
	switch {
	case err == nil:
		for i := range 4 {
			if sid := "t" + strconv.Itoa(i); strings.Contains(*policy.Policy, `"Sid":"`+sid+`"`) {
				d.Statements[sid] = true
			}
		}
	case harness.Code(err) != "ResourceNotFoundException":
		t.Fatalf("policy of %s: %v", f.name, err)
	}
	return d
}

// check holds the platform to what it has acknowledged.
func (f *durableFunction) check(t testing.TB, c clients) {
	t.Helper()
	got := f.readBack(t, c)
	lost := cmp.Diff(f.acknowledged, got)
	if lost != "" && (f.doubt == nil || !cmp.Equal(*f.doubt, got)) {
		t.Errorf("%s is not what was acknowledged (- acknowledged, + read back):\n%s\nrequest without an answer: %+v", f.name, lost, f.doubt)
	}
	f.acknowledged, f.doubt = got, nil
	if !got.Exists || !f.dirty {
		return
	}
	harness.WaitActive(t, c.lambda, f.name)
	if answer := harness.MustInvoke(t, c.lambda, f.name, "{}"); answer != strconv.Itoa(got.Code) {
		t.Errorf("%s answers %s, want %d", f.name, answer, got.Code)
	}
	f.dirty = false
}

// TestKilledWhileWritten kills the platform at random moments while it is written to, and reads everything back.
func TestKilledWhileWritten(t *testing.T) {
	data := t.TempDir()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var all []*durableFunction
	for i := range 6 {
		all = append(all, &durableFunction{name: "durable-" + strconv.Itoa(i), random: rand.New(rand.NewPCG(seed, uint64(i)+1))})
	}
	for round := range killRounds {
		if round%4 == 3 { // a start that is killed as well
			p := harness.Launch(t, harness.Options{Data: data})
			<-time.After(time.Duration(random.IntN(150)) * time.Millisecond)
			p.Kill()
		}
		p := harness.Start(t, harness.Options{Data: data})
		c := clientsOf(p)
		for _, f := range all {
			f.check(t, c)
		}
		ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
		var writers sync.WaitGroup
		for _, f := range all {
			writers.Go(func() {
				for f.write(ctx, t, c) {
				}
			})
		}
		<-time.After(time.Duration(20+random.IntN(300)) * time.Millisecond)
		p.Kill()
		writers.Wait()
		cancel()
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	p := harness.Start(t, harness.Options{Data: data})
	writes := 0
	for _, f := range all {
		f.dirty = true
		f.check(t, clientsOf(p))
		writes += f.writes
	}
	if writes < 10*killRounds {
		t.Errorf("only %d writes were acknowledged", writes)
	}
	t.Logf("%d acknowledged writes", writes)
	p.Stop()
	harness.NothingLeft(t, data)
}

// TestUpdatesUnderLoad updates a function's code while it is invoked. Old code must not answer what was sent after the
// update was seen to be successful, and nothing may fail.
func TestUpdatesUnderLoad(t *testing.T) {
	p := harness.Start(t, harness.Options{})
	client := p.Lambda()
	source := func(n int) string {
		return fmt.Sprintf("import time\ndef handler(event, context):\n    time.sleep(event.get('sleep', 0))\n    return %d\n", n)
	}
	harness.Deploy(t, client, &harness.Function{Name: "load", Source: source(0), MemoryMB: 1769})
	const updates, callers = 30, 4
	var successful, newest, invocations atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var callersDone sync.WaitGroup
	for i := range callers {
		event := "{}"
		if i == 0 {
			event = `{"sleep": 0.05}` // some are under way when the code changes
		}
		callersDone.Go(func() {
			for ctx.Err() == nil {
				floor := successful.Load()
				payload, failed, err := harness.Invoke(t.Context(), client, "load", event)
				if err != nil || failed {
					t.Errorf("an invocation failed: %v %s", err, payload)
					return
				}
				n, err := strconv.ParseInt(payload, 10, 64)
				if ceiling := newest.Load(); err != nil || n < floor || n > ceiling {
					t.Errorf("answer %s (%v) of code that was replaced: sent when %d was successful; the newest is %d", payload, err, floor, ceiling)
					return
				}
				invocations.Add(1)
			}
		})
	}
	for n := 1; n <= updates && !t.Failed(); n++ {
		newest.Store(int64(n))
		_, err := client.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{
			FunctionName: aws.String("load"), ZipFile: harness.Zip(t, map[string]string{"app.py": source(n)}),
		})
		if err != nil {
			t.Errorf("update %d: %v", n, err)
			break
		}
		harness.Eventually(t, "the update is successful", func() bool {
			c, err := client.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: aws.String("load")})
			if err != nil {
				t.Errorf("look at the update: %v", err)
				return true
			}
			return c.LastUpdateStatus == types.LastUpdateStatusSuccessful
		})
		successful.Store(int64(n))
		before := invocations.Load()
		harness.Eventually(t, "each code is invoked", func() bool { return t.Failed() || invocations.Load() >= before+2*callers })
	}
	stop()
	callersDone.Wait()
	if answer := harness.MustInvoke(t, client, "load", "{}"); answer != strconv.Itoa(updates) && !t.Failed() {
		t.Errorf("the last answer is %s", answer)
	}
	t.Logf("%d invocations, %d updates", invocations.Load(), updates)
}

func sha256Of(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.StdEncoding.EncodeToString(sum[:])
}
