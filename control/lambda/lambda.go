// Package lambda answers the control operations of the AWS Lambda API: creating, reading, changing, listing and deleting
// functions, their versions and aliases, their tags and resource-based policies, their concurrency and the settings of
// their invocations. It writes records and nothing else: it starts no environment, invokes nothing and never waits for
// either. Invoke is another package's, and so is the second half of the state machines below, which reads the same
// records from the store's change feed. $LATEST:
//
//	               CreateFunction
//	                     │
//	                     v      prepared            UpdateFunction*
//	State            Pending ──────────────> Active <────────────┐
//	                   ^ │ failed               │                │ prepared: Successful
//	   UpdateFunction* │ v                      │ LastUpdate     │ failed: Failed, the version before it stays in use
//	                  Failed                    └> InProgress ───┘
//
// A published version, whose number is never used again and which nothing changes but these:
//
//	PublishVersion, or Publish in CreateFunction and UpdateFunctionCode
//	   │
//	   v      prepared
//	Pending ──────────────> Active ──┐ DeleteFunction with its number,
//	   │  failed                     ├──────────────────────────────────> (nothing)
//	   └──────────────────> Failed ──┘ unless an alias points at it
//
// The arrows with an operation's name are drawn here; the others are drawn by whoever prepares versions, who compares
// Generation and not RevisionID to see whether the record is still the one that was prepared, since tags and permissions
// give a new RevisionID too. While a function is Pending or its update InProgress, another update and PublishVersion are
// refused with 409; a version that is Pending stops neither.
//
// Each change is one compare-and-set of one function's record, which the store repeats until it fits. What a function
// may reserve depends on the records of all others as well; the one lock here has such changes made one at a time. Nodes
// that share a store do not see each other's: two that reserve at the same moment can go below the account's floor.
package lambda

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"thaw"
	"thaw/awsapi"
	"thaw/control/internal/operation"
	"thaw/state"
	"thaw/state/queues"
	"thaw/trigger/mapping"
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
	// KeepCode spares a package for an hour more, whether or not anything refers to it.
	KeepCode(ctx context.Context, sha256 string) error
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

// Config is what an API needs. All fields but Limits, Capacity, HasQueue, Layers, Mappings, Queue and Log are
// required.
type Config struct {
	Account      thaw.Account
	Architecture string // the host's, as AWS names it: x86_64 or arm64; no other can run
	BaseURL      string // where clients reach this platform, without a trailing slash: http://127.0.0.1:4566
	Functions    Functions
	Packages     Packages
	Runtimes     Runtimes
	// CheckPackage judges a deployment package or a layer without unpacking it, and tells how many bytes its files have; its
	// errors are *thaw.Error in AWS's words.
	CheckPackage func(ctx context.Context, zip io.ReaderAt, size int64) (unzipped int64, err error)
	Limits       Limits
	// Capacity tells what this node has of a qualifier's provisioned concurrency. Nil: nothing is known, and IN_PROGRESS
	// is shown.
	Capacity func(function, qualifier string) thaw.Capacity
	// HasQueue reports whether there is an SQS queue of a name, for dead-letter queues and destinations. Nil: they are judged
	// by the form of their ARNs.
	HasQueue func(name string) bool
	// Layers keeps layers: records of the kind thaw.LayerRecords. Nil: the operations of layers are not there, and functions
	// with layers are refused.
	Layers *state.Records
	// Mappings keeps event source mappings, and Queue describes a queue of this platform by the name that package queues
	// knows it by. Nil: the operations of event source mappings are not there.
	Mappings *mapping.Records
	Queue    func(name string) (queues.Info, bool)
	// Traces says that there is a collector that traces are sent to. Without one, the tracing mode Active is refused.
	Traces bool
	// Log gets the failures of downloads, which have no other way out. Nil means slog.Default().
	Log *slog.Logger
}

// API holds the operations.
type API struct {
	cfg Config
	// key signs download links; it lives as long as the process, and so do the links at most.
	key [32]byte
	now func() time.Time
	// reserving is held while a function's claim to the account's concurrency is compared with the others' and stored.
	reserving sync.Mutex
	// mapping is held while a mapping is compared with the others and stored.
	mapping sync.Mutex
}

// New makes an API. The error says which field of cfg is missing or wrong.
func New(cfg Config) (*API, error) {
	switch {
	case cfg.Functions == nil || cfg.Packages == nil || cfg.Runtimes == nil || cfg.CheckPackage == nil:
		return nil, errors.New("control/lambda: Functions, Packages, Runtimes and CheckPackage are required")
	case (cfg.Mappings == nil) != (cfg.Queue == nil):
		return nil, errors.New("control/lambda: Mappings and Queue go together")
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
	awsapi.Handle(s, "PublishVersion", a.publishVersion)
	awsapi.Handle(s, "ListVersionsByFunction", a.listVersionsByFunction)
	awsapi.Handle(s, "CreateAlias", a.createAlias)
	awsapi.Handle(s, "GetAlias", a.getAlias)
	awsapi.Handle(s, "UpdateAlias", a.updateAlias)
	awsapi.Handle(s, "DeleteAlias", a.deleteAlias)
	awsapi.Handle(s, "ListAliases", a.listAliases)
	awsapi.Handle(s, "PutFunctionConcurrency", a.putFunctionConcurrency)
	awsapi.Handle(s, "GetFunctionConcurrency", a.getFunctionConcurrency)
	awsapi.Handle(s, "DeleteFunctionConcurrency", a.deleteFunctionConcurrency)
	awsapi.Handle(s, "PutProvisionedConcurrencyConfig", a.putProvisionedConcurrencyConfig)
	awsapi.Handle(s, "GetProvisionedConcurrencyConfig", a.getProvisionedConcurrencyConfig)
	awsapi.Handle(s, "ListProvisionedConcurrencyConfigs", a.listProvisionedConcurrencyConfigs)
	awsapi.Handle(s, "DeleteProvisionedConcurrencyConfig", a.deleteProvisionedConcurrencyConfig)
	awsapi.Handle(s, "PutFunctionEventInvokeConfig", a.putFunctionEventInvokeConfig)
	awsapi.Handle(s, "UpdateFunctionEventInvokeConfig", a.updateFunctionEventInvokeConfig)
	awsapi.Handle(s, "GetFunctionEventInvokeConfig", a.getFunctionEventInvokeConfig)
	awsapi.Handle(s, "DeleteFunctionEventInvokeConfig", a.deleteFunctionEventInvokeConfig)
	awsapi.Handle(s, "ListFunctionEventInvokeConfigs", a.listFunctionEventInvokeConfigs)
	awsapi.Handle(s, "PutFunctionRecursionConfig", a.putFunctionRecursionConfig)
	awsapi.Handle(s, "GetFunctionRecursionConfig", a.getFunctionRecursionConfig)
	awsapi.Handle(s, "PutRuntimeManagementConfig", a.putRuntimeManagementConfig)
	awsapi.Handle(s, "GetRuntimeManagementConfig", a.getRuntimeManagementConfig)
	if a.cfg.Mappings != nil {
		a.registerMappings(s)
	}
	if a.cfg.Layers != nil {
		a.registerLayers(s)
	}
}

// storeError words an error of the store for the caller where the caller can do something about it.
func storeError(err error) error { return operation.Stored(err, thaw.CodeService) }

// revision makes a new RevisionId. Running differs from Config by its revision only while an update is under way.
func revision(f *thaw.Function) {
	f.Config.RevisionID = uuid.NewString()
	if f.Running != nil && f.Running.Generation == f.Config.Generation {
		f.Running.RevisionID = f.Config.RevisionID
	}
}
