package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"thaw"
	"thaw/awsapi"
	"thaw/cli"
	"thaw/code"
	"thaw/control/autoscaling"
	"thaw/control/iam"
	"thaw/control/lambda"
	"thaw/control/sts"
	"thaw/edge"
	"thaw/invoke"
	"thaw/placement"
	"thaw/runtimes"
	"thaw/sandbox"
	"thaw/sandbox/linux"
	"thaw/sandbox/linux/network"
	"thaw/state"
	"thaw/state/queues"
	"thaw/telemetry"
	trigger "thaw/trigger/autoscaling"
	"thaw/warm"
)

// drainTime is how long a stop waits for requests that are under way.
const drainTime = 5 * time.Second

// gcPercent lets the heap grow to four times of what is live before it is collected: some 40 MB under load.
const gcPercent = 300

// up is the verb: it runs the platform until ctx ends.
func up(ctx context.Context, o cli.UpOptions) error {
	cfg, err := loadConfig(o.Config)
	if err != nil {
		return &cli.Error{What: "cannot use the configuration", Why: err.Error(), Next: "compare with thaw.sample.yaml", Exit: cli.ExitUsage, Err: err}
	}
	if o.Listen != "" {
		cfg.Listen = o.Listen
	}
	if o.Data != "" {
		cfg.Data = o.Data
	}
	if o.Durability != "" {
		cfg.Durability = durability(o.Durability)
	}
	if err := cfg.validate(); err != nil {
		return &cli.Error{What: "cannot use the configuration", Why: err.Error(), Next: "compare with thaw.sample.yaml", Exit: cli.ExitUsage, Err: err}
	}
	if cfg.Data, err = filepath.Abs(cfg.Data); err != nil {
		return err
	}
	var handler slog.Handler = slog.NewTextHandler(o.Log, nil)
	if o.JSON {
		handler = slog.NewJSONHandler(o.Log, nil)
	}
	return runPlatform(ctx, &cfg, slog.New(handler))
}

// runPlatform wires the parts, runs them until ctx ends or one of them fails, and stops them.
func runPlatform(ctx context.Context, cfg *config, log *slog.Logger) (err error) {
	begin := time.Now()
	told := ctx
	// Two ids are made per invocation, and memory is cheaper than collecting it at every few megabytes.
	uuid.EnableRandPool()
	debug.SetGCPercent(gcPercent)
	ctx, failed := context.WithCancelCause(ctx)
	defer failed(nil)
	g := &group{failed: failed}
	defer func() {
		if told.Err() != nil && errors.Is(err, context.Canceled) {
			err = nil // told to stop before it was up
		}
		err = errors.Join(err, g.stop())
	}()

	listener, err := listen(ctx, cfg.Listen)
	if err != nil {
		return err
	}
	g.onStop("listener", func() error { listener.Close(); return nil }) //nolint:errcheck // the server has closed it
	store, err := whenFree(ctx, state.ErrLocked, func() (*state.Store, error) {
		return state.Open(ctx, state.Config{
			Dir: cfg.Data, SyncAlways: cfg.Durability == durabilityFsync, LogBytes: cfg.Logs.MaxBytes, LogAge: cfg.Logs.MaxAge, Log: log,
		})
	})
	if err != nil {
		return explainState(cfg, err)
	}
	g.onStop("state", store.Close)
	messages, err := queues.Open(ctx, store, queues.Config{Log: log, MaxBytes: cfg.Queues.MaxBytes})
	if err != nil {
		return explainState(cfg, err)
	}
	g.run(ctx, "queues", messages.Run)

	account := thaw.Account{ID: cfg.Account, Region: cfg.Region}
	packages, err := code.OpenCache(filepath.Join(cfg.Data, "code"), store, cfg.CodeCache)
	if err != nil {
		return err
	}
	g.onStop("code cache", packages.Close)
	g.run(ctx, "package sweep", func(ctx context.Context) error { return sweepPackages(ctx, store, packages, log) })
	// Looking for interpreters and making the network take 20 ms each.
	var registry *runtimes.Registry
	var discovery errgroup.Group
	discovery.Go(func() (err error) {
		registry, err = runtimes.Discover(ctx, runtimes.Config{
			Dir: filepath.Join(cfg.Data, "runtimes"), Nearest: cfg.Runtimes.Nearest, Extra: cfg.Runtimes.Search,
			Getenv: os.Getenv,
		})
		return err
	})
	g.onStop("interpreters", func() error { _ = discovery.Wait(); return nil }) // its error was returned already
	networks, mode, err := openNetworks(ctx, cfg, listener.Addr(), g, log)
	if err != nil {
		return err
	}
	driver, err := linux.New(ctx, linux.Config{
		Instance: instance(cfg.Data), Dir: filepath.Join(cfg.Data, "sandboxes"),
		Network: mode, Networks: networks, Resolver: resolver(log), Spares: cfg.Environments.Ready, FavorMoves: cfg.Environments.FavorMoves,
		Logf: func(format string, args ...any) { log.Error(fmt.Sprintf(format, args...)) },
	})
	if err != nil {
		return err
	}
	g.onStop("sandboxes", driver.Close)
	if !driver.Bounded() {
		log.Warn("functions may use all of this machine's memory", "because", driver.Limits(), "see", "thaw doctor")
	}
	g.run(ctx, "sandboxes made ahead", driver.Run)
	if err := discovery.Wait(); err != nil {
		return err
	}

	up := make(chan struct{}) // closed when the platform is up
	watching, err := startTelemetry(ctx, &telemetryParts{cfg: cfg, account: account, store: store, up: up, log: log}, g)
	if err != nil {
		return err
	}
	logs := telemetry.NewLogs(watching.embedded.Watch(store))
	g.run(ctx, "logs", logs.Run)
	placer := placement.New(placement.Config{
		Store: store, Packages: packages, Launcher: registry, Logs: logs, Log: log,
		Sandbox:         &sandbox.Config{Driver: driver, Account: account},
		Programs:        filepath.Join(cfg.Data, "runtimes"),
		MaxEnvironments: cfg.Environments.Max, Starters: cfg.Environments.Starters,
		Queue: cfg.Environments.Queue, Memory: memoryBudget(cfg.Environments.Memory), MaxAge: cfg.Environments.MaxAge,
		KeepAlive: warm.Fixed(cfg.Environments.KeepAlive), FreezeAfter: cfg.Environments.FreezeAfter,
		AvailableMemory: availableMemory,
		Spares:          cfg.Environments.Spares, MaxVersionSpares: cfg.Environments.MaxVersionSpares, MaxSpares: cfg.Environments.MaxSpares,
		InactiveAfter: cfg.Environments.InactiveAfter,
		MaxTemplates:  cfg.Environments.Templates, Recent: filepath.Join(cfg.Data, "recent.json"),
		Profiled: watching.profiled(cfg),
	})
	g.run(ctx, "placement", placer.Run)
	g.run(ctx, "archive sweep", func(ctx context.Context) error { return sweepArchives(ctx, store, registry, log) })
	invoker := invoke.New(invoke.Config{
		Catalog: store, Placer: placer, Account: account, Concurrency: cfg.Environments.Concurrency,
		Scaling: invoke.ScalingRate{Environments: cfg.Environments.ScaleOut, Per: 10 * time.Second},
		Record:  watching.record(cfg), Throttled: watching.throttled, Sample: watching.sample,
	})
	g.run(ctx, "limits", invoker.Run)
	watching.gauges.Store(&gaugeSource{functions: store.Functions, invoker: invoker, placer: placer})
	exposePlatform(watching.scraped, invoker, placer, logs, watching.recorder)
	g.onStop("extensions", func() error {
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		invoker.Drain(drain)
		return nil
	})

	events, err := startEvents(ctx, &eventParts{
		cfg: cfg, account: account, store: store, queues: messages, invoker: invoker, placer: placer,
		count: watching.metrics.Count, mapped: watching.metrics.Mapping, log: log,
	}, g)
	if err != nil {
		return err
	}
	logging, err := startLogs(ctx, &logParts{cfg: cfg, account: account, store: store, logs: logs, async: events.async, metrics: watching.metrics, embedded: watching.embedded, log: log}, g)
	if err != nil {
		return err
	}
	functions, err := lambda.New(lambda.Config{
		Account: account, Architecture: architecture(), BaseURL: "http://" + listener.Addr().String(),
		Functions: store, Packages: store, Runtimes: registry, CheckPackage: code.Check, Log: log,
		Layers: store.Records(thaw.LayerRecords), Traces: cfg.Traces.Endpoint != "",
		Capacity: placer.Capacity, HasQueue: hasQueue(messages), Mappings: events.mappings, Queue: describeQueue(messages),
		Limits: lambda.Limits{ConcurrentExecutions: int32(cfg.Environments.Concurrency)},
	})
	if err != nil {
		return err
	}
	scaled := trigger.NewRecords(store)
	scaling, err := trigger.New(trigger.Config{
		Records: scaled, Functions: store, Provision: functions.Provision, Usage: placer.ProvisionedUse,
		AWSPace: cfg.Fidelity == fidelityAWS, Log: log,
	})
	if err != nil {
		return err
	}
	g.run(ctx, "automatic scaling", scaling.Run)
	monitoring, err := startAlarms(ctx, &alarmParts{account: account, store: store, metrics: watching.metrics, queues: messages, events: events, log: log}, g)
	if err != nil {
		return err
	}
	register := map[string]func(*awsapi.Service){
		"monitoring": monitoring,
		"lambda":     functions.Register, "iam": iam.New(account, store).Register,
		"sts":                     func(s *awsapi.Service) { sts.Register(s, account) },
		"application-autoscaling": autoscaling.New(account, scaled, store).Register,
	}
	maps.Copy(register, events.services)
	maps.Copy(register, logging.services)
	services, err := newServices(log, register)
	if err != nil {
		return err
	}
	handler, err := newEdge(cfg, edge.Config{
		Services: services, Invoker: invoker, Placement: placer, Catalog: store, Logs: logs,
		Events: events.async, Queues: messages, Mappings: events.readers, Deliveries: events.deliveries,
		Records: watching.kept(cfg), Throttled: watching.throttles, MeasuresInit: cfg.Telemetry.InitProfile, Metrics: watching.scraped.Handler(), MetricsToken: cfg.Metrics.Token,
		Download: functions.Downloads(), Account: account, Version: version, Runtimes: registry.Identifiers(), Log: log,
	})
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	server.RegisterOnShutdown(events.stopWaiting)
	server.RegisterOnShutdown(logging.stopTails)
	g.run(ctx, "server", func(ctx context.Context) error { return serve(ctx, server, listener) })

	log.Info("thaw is up", "url", "http://"+listener.Addr().String(), "data", cfg.Data, "version", version, "took", time.Since(begin).Round(time.Millisecond))
	debug.FreeOSMemory() // what the start needed: some 3 MB of 60
	close(up)
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	log.Info("stopping")
	return nil
}

// serve answers until ctx ends, then gives the requests under way some time.
func serve(ctx context.Context, server *http.Server, listener net.Listener) error {
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		server.Close() //nolint:errcheck // what is cut off now was told to hurry
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// newServices makes the AWS services, by their names in SigV4's credential scope; each function adds the operations of one.
func newServices(log *slog.Logger, register map[string]func(*awsapi.Service)) (map[string]edge.Service, error) {
	services := map[string]edge.Service{}
	for name, add := range register {
		service, err := awsapi.New(name)
		if err != nil {
			return nil, err
		}
		service.Log = log
		add(service)
		services[name] = service
	}
	return services, nil
}

// newEdge makes the listener's handler, which asks for signatures where they are needed.
func newEdge(cfg *config, config edge.Config) (*edge.Server, error) {
	if cfg.authenticated() {
		keys, err := accessKeys(cfg)
		if err != nil {
			return nil, err
		}
		config.Authenticator = awsapi.NewVerifier(func(id string) (string, bool) { secret, ok := keys[id]; return secret, ok })
		config.Log.Info("requests must be signed", "keys", filepath.Join(cfg.Data, credentialsFile))
	}
	return edge.New(config), nil
}

// openNetworks makes what gives environments their network, as far as this process may.
func openNetworks(ctx context.Context, cfg *config, address net.Addr, g *group, log *slog.Logger) (linux.Networks, sandbox.Network, error) {
	mode := cfg.Network.Mode
	if mode == sandbox.NetworkHost || mode == sandbox.NetworkNone {
		return nil, mode, nil
	}
	deny := cfg.Network.DenyHostPorts
	if tcp, ok := address.(*net.TCPAddr); ok && !cfg.authenticated() {
		deny = append([]uint16{uint16(tcp.Port)}, deny...)
	}
	pool, err := network.Open(ctx, network.Config{
		Instance: instance(cfg.Data), Prefix: cfg.Network.Prefix, Pool: cfg.Network.Pool, DenyHostPorts: deny, Log: log,
	})
	switch {
	case err == nil:
	case mode == "" && (errors.Is(err, network.ErrNotPermitted) || errors.Is(err, network.ErrUnsupported)):
		log.Warn("functions have no network", "because", err, "see", "thaw doctor, and network.mode in the configuration")
		return nil, sandbox.NetworkNone, nil
	case errors.Is(err, network.ErrPrefix):
		return nil, "", &cli.Error{What: "cannot make the functions' network", Why: err.Error(), Next: "set network.prefix to a free range in the file given by --config", Exit: cli.ExitFailed, Err: err}
	default:
		return nil, "", &cli.Error{What: "cannot make the functions' network", Why: err.Error(), Next: "thaw doctor        (or set network.mode to none or host)", Exit: cli.ExitFailed, Err: err}
	}
	g.onStop("network", pool.Close)
	g.run(ctx, "network namespaces", pool.Run)
	acquire := func(ctx context.Context, key string) (linux.Namespace, error) { return pool.Acquire(ctx, key) }
	return linux.AcquireFunc(acquire), sandbox.NetworkNAT, nil
}

// resolver is the resolv.conf that works inside network namespaces; nil leaves the host's own.
func resolver(log *slog.Logger) []byte {
	r, err := network.HostResolver()
	if err != nil {
		log.Warn("functions may not resolve names", "because", err)
		return nil
	}
	return r.Conf
}

// Processes that a platform killed just now was about to start hold its listener and its lock until they run their program:
// some milliseconds, or longer on a machine with too much to do.
const (
	takenPatience = 2 * time.Second
	takenAgain    = 20 * time.Millisecond
)

// whenFree tries again for takenPatience while what it tries to take is taken.
func whenFree[T any](ctx context.Context, taken error, try func() (T, error)) (T, error) {
	v, err := try()
	for until := time.Now().Add(takenPatience); errors.Is(err, taken) && time.Now().Before(until) && ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-time.After(takenAgain):
			v, err = try()
		}
	}
	return v, err
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	l, err := whenFree(ctx, syscall.EADDRINUSE, func() (net.Listener, error) { return new(net.ListenConfig).Listen(ctx, "tcp", address) })
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &cli.Error{What: "cannot listen on " + address, Why: "another program, or another thaw, uses that port", Next: "thaw up --listen 127.0.0.1:" + strconv.Itoa(freePort(ctx)), Exit: cli.ExitFailed, Err: err}
	case errors.Is(err, syscall.EACCES):
		return nil, &cli.Error{What: "cannot listen on " + address, Why: "ports below 1024 need root", Next: "thaw up --listen 127.0.0.1:4566", Exit: cli.ExitFailed, Err: err}
	default:
		return nil, &cli.Error{What: "cannot listen on " + address, Why: err.Error(), Next: "thaw up --listen 127.0.0.1:4566", Exit: cli.ExitUsage, Err: err}
	}
}

// freePort suggests a port to someone whose port is taken.
func freePort(ctx context.Context) int {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 4567
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// explainState says what to do about a data directory that cannot be opened.
func explainState(cfg *config, err error) error {
	e := &cli.Error{What: "cannot open the data directory " + cfg.Data, Why: err.Error(), Exit: cli.ExitFailed, Err: err}
	switch {
	case errors.Is(err, state.ErrLocked):
		e.Why, e.Next = "another thaw uses it", "thaw up --data OTHER_DIRECTORY        (or stop the other one)"
	case errors.Is(err, state.ErrNewerVersion):
		e.Next = "install that version or a newer one, or use another --data directory"
	case errors.Is(err, state.ErrFull):
		e.Why, e.Next = "its file system has too little space left to start", "df -h "+cfg.Data
	case errors.Is(err, os.ErrPermission):
		e.Why, e.Next = "this user may not write there", "thaw up --data DIRECTORY_OF_YOURS        (or run as root)"
	}
	return e
}

// instance names what this platform makes on the machine, so that the next start on the same data can remove what a
// crash has left, and two platforms do not meet.
func instance(data string) string {
	sum := sha256.Sum256([]byte(data))
	return hex.EncodeToString(sum[:4])
}

// availableMemory is the share of the machine's memory that is available, after the kernel's own estimate; 1 where it
// cannot be told.
func availableMemory() float64 {
	total, available := machineMemory()
	if total == 0 {
		return 1
	}
	return available / total
}

// memoryBudget is the setting environments.memory in bytes; 0, no bound, where the machine's memory cannot be told.
func memoryBudget(setting float64) int64 {
	if setting > 1 {
		return int64(setting)
	}
	total, _ := machineMemory()
	return int64(setting * total)
}

// machineMemory is the machine's memory and what of it is available, bytes; zero where it cannot be told.
func machineMemory() (total, available float64) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(text)) {
		fmt.Sscanf(line, "MemTotal: %f", &total)         //nolint:errcheck // most lines are others
		fmt.Sscanf(line, "MemAvailable: %f", &available) //nolint:errcheck // as above
	}
	return total * 1024, available * 1024
}

// architecture is the host's, by AWS's name.
func architecture() string {
	if runtime.GOARCH == "arm64" {
		return "arm64"
	}
	return "x86_64"
}
