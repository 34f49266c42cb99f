// Package lambda answers the control operations of the AWS Lambda API: creating, reading, changing, listing and deleting
// functions, their tags and their resource-based policies. It writes records and nothing else: it starts no environment,
// invokes nothing and never waits for either. Invoke is another package's, and so is the second half of the state
// machine below, which reads the same records from the store's change feed.
//
//	               CreateFunction
//	                     │
//	                     v      prepared            UpdateFunction*
//	State            Pending ──────────────> Active <────────────┐
//	                   ^ │ failed               │                │ prepared: Successful
//	   UpdateFunction* │ v                      │ LastUpdate     │ failed: Failed, the version before it stays in use
//	                  Failed                    └> InProgress ───┘
//
// The arrows with an operation's name are drawn here; the others are drawn by whoever prepares versions, who compares
// Generation and not RevisionID to see whether the record is still the one that was prepared, since tags and permissions
// give a new RevisionID too. While a function is Pending or its update InProgress, another update is refused with 409.
//
// There are no locks: each change is one compare-and-set of one function's record, which the store repeats until it fits.
package lambda

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/google/uuid"

	"thaw"
	"thaw/awsapi"
	"thaw/state"
)

// Functions is the catalog of functions. Writes are durable and visible to reads when they return nil; their errors
// are those of package state.
type Functions interface {
	Function(name string) (*thaw.Function, bool)
	Functions(after string, limit int) []*thaw.Function
	CreateFunction(ctx context.Context, f *thaw.Function) error
	UpdateFunction(ctx context.Context, name string, change func(*thaw.Function) error) (*thaw.Function, error)
	DeleteFunction(ctx context.Context, name string) error
}

// Packages keeps deployment packages by digest.
type Packages interface {
	PutCode(ctx context.Context, zip []byte) (thaw.Code, error)
	OpenCode(ctx context.Context, sha256 string) (io.ReadCloser, error)
}

// Runtimes knows which runtime identifiers this machine can run. Check's error is a *thaw.Error that lists them.
type Runtimes interface {
	Check(runtime string) error
}

// Limits are the account's quotas, as GetAccountSettings shows them. Zero values stand for AWS's defaults.
type Limits struct {
	ConcurrentExecutions int32 // default 1,000
	TotalCodeSize        int64 // bytes of all packages, default 75 GiB; a function that would exceed it is refused
}

// Config is what an API needs. All fields but Limits and Log are required.
type Config struct {
	Account      thaw.Account
	Architecture string // the host's, as AWS names it: x86_64 or arm64; no other can run
	BaseURL      string // where clients reach this platform, without a trailing slash: http://127.0.0.1:4566
	Functions    Functions
	Packages     Packages
	Runtimes     Runtimes
	// CheckPackage judges a deployment package without unpacking it; its errors are *thaw.Error in AWS's words.
	CheckPackage func(ctx context.Context, zip io.ReaderAt, size int64) error
	Limits       Limits
	// Log gets the failures of downloads, which have no other way out. Nil means slog.Default().
	Log *slog.Logger
}

// API holds the operations.
type API struct {
	cfg Config
	// key signs download links; it lives as long as the process, and so do the links at most.
	key [32]byte
	now func() time.Time
}

// New makes an API. The error says which field of cfg is missing or wrong.
func New(cfg Config) (*API, error) {
	switch {
	case cfg.Functions == nil || cfg.Packages == nil || cfg.Runtimes == nil || cfg.CheckPackage == nil:
		return nil, errors.New("control/lambda: Functions, Packages, Runtimes and CheckPackage are required")
	case cfg.Account.ID == "" || cfg.Account.Region == "":
		return nil, errors.New("control/lambda: Account needs an id and a region")
	case cfg.Architecture != "x86_64" && cfg.Architecture != "arm64":
		return nil, fmt.Errorf("control/lambda: architecture %q is neither x86_64 nor arm64", cfg.Architecture)
	}
	if cfg.Limits.ConcurrentExecutions == 0 {
		cfg.Limits.ConcurrentExecutions = 1000
	}
	if cfg.Limits.TotalCodeSize == 0 {
		cfg.Limits.TotalCodeSize = 75 << 30
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	a := &API{cfg: cfg, now: time.Now}
	rand.Read(a.key[:])
	return a, nil
}

// Register adds the operations to the Lambda service. Operations of the model that are not among them answer 501.
func (a *API) Register(s *awsapi.Service) {
	awsapi.Handle(s, "CreateFunction", a.createFunction)
	awsapi.Handle(s, "GetFunction", a.getFunction)
	awsapi.Handle(s, "GetFunctionConfiguration", a.getFunctionConfiguration)
	awsapi.Handle(s, "UpdateFunctionCode", a.updateFunctionCode)
	awsapi.Handle(s, "UpdateFunctionConfiguration", a.updateFunctionConfiguration)
	awsapi.Handle(s, "DeleteFunction", a.deleteFunction)
	awsapi.Handle(s, "ListFunctions", a.listFunctions)
	awsapi.Handle(s, "GetAccountSettings", a.getAccountSettings)
	awsapi.Handle(s, "TagResource", a.tagResource)
	awsapi.Handle(s, "UntagResource", a.untagResource)
	awsapi.Handle(s, "ListTags", a.listTags)
	awsapi.Handle(s, "AddPermission", a.addPermission)
	awsapi.Handle(s, "RemovePermission", a.removePermission)
	awsapi.Handle(s, "GetPolicy", a.getPolicy)
}

// getAccountSettings counts what there is; nothing is reserved yet, so the unreserved concurrency is all of it.
func (a *API) getAccountSettings(context.Context, *sdk.GetAccountSettingsInput) (*sdk.GetAccountSettingsOutput, error) {
	count, size := a.usage("")
	return accountSettings(a.cfg.Limits, count, size), nil
}

// usage counts the functions and the bytes of their packages, leaving out the function named except.
func (a *API) usage(except string) (count, size int64) {
	const page = 1000
	after := ""
	for {
		functions := a.cfg.Functions.Functions(after, page)
		for _, f := range functions {
			if f.Name != except {
				count++
				size += f.Config.Code.Size
			}
		}
		if len(functions) < page {
			return count, size
		}
		after = functions[len(functions)-1].Name
	}
}

// storeError words an error of the store for the caller where the caller can do something about it.
func storeError(err error) error {
	if errors.Is(err, state.ErrFull) {
		return &thaw.Error{Code: thaw.CodeService, Message: "There is no space left in the data directory; free some and send the request again.", Cause: err}
	}
	return err
}

// revision makes a new RevisionId. Running differs from Config by its revision only while an update is under way.
func revision(f *thaw.Function) {
	f.Config.RevisionID = uuid.NewString()
	if f.Running != nil && f.Running.Generation == f.Config.Generation {
		f.Running.RevisionID = f.Config.RevisionID
	}
}
