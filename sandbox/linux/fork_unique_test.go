package linux

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"thaw/runtimes"
)

// manyEnvironments is how many are forked of each template; on a machine that takes longer than enoughTime for them, as many as
// it manages by then, and at least a tenth.
const (
	manyEnvironments = 2000
	enoughTime       = 90 * time.Second
)

// draws are functions whose answer has two draws, of one value of each generator that init has already used.
var draws = map[string]function{
	"python": {runtime: "python3.11", handler: "app.handler", files: map[string]string{"app.py": `
import hashlib, os, random, secrets, ssl, tempfile, time, uuid, _random
class Own(random.Random): pass
own, fixed, plain, hidden = random.Random(), Own(time.time()), _random.Random(7), {'list': [(random.Random(),)]}
system = random.SystemRandom()
def draw():
    return dict(random=random.random(), gauss=random.gauss(0, 1), own=own.random(), own_gauss=own.gauss(0, 1), fixed=fixed.random(), plain=plain.random(), hidden=hidden['list'][0][0].random(),
        system=system.random(), secrets=secrets.token_hex(16), openssl=ssl.RAND_bytes(16).hex(), uuid1=str(uuid.uuid1()), clock=str(uuid.uuid1())[19:], uuid4=str(uuid.uuid4()),
        urandom=os.urandom(16).hex(), name=next(tempfile._get_candidate_names()))
draw()
def handler(event, context): return [draw(), draw()]
`}},
	"node": {runtime: "nodejs20.x", handler: "app.handler", files: map[string]string{"app.js": `
const crypto = require('crypto'), vm = require('vm');
const kept = Math.random, { random } = Math;
const context = vm.createContext();
const used = vm.createContext(); vm.runInContext('1', used);
function draw() {
  return { math: Math.random(), kept: kept(), random: random(), bytes: crypto.randomBytes(16).toString('hex'), uuid: crypto.randomUUID(), int: crypto.randomInt(2 ** 47),
    web: Buffer.from(crypto.webcrypto.getRandomValues(new Uint8Array(16))).toString('hex'), fresh: vm.runInNewContext('Math.random()') };
}
draw();
exports.handler = async () => [1, 2].map(() => ({ ...draw(), context: vm.runInContext('Math.random()', context) }));
`}},
	"ruby": {runtime: "ruby3.2", handler: "app.handler", files: map[string]string{"app.rb": `
require 'securerandom'
require 'openssl'
OWN = Random.new
FIXED = Random.new(Random.new_seed)
def draw
  { rand: rand, kernel: Random.rand, shuffle: (1..100).to_a.shuffle.join(','), own: OWN.rand, fixed: FIXED.rand, hex: SecureRandom.hex, uuid: SecureRandom.uuid, number: SecureRandom.random_number,
    openssl: OpenSSL::Random.random_bytes(16).unpack1('H*'), urandom: Random.urandom(16).unpack1('H*') }
end
draw
def handler(event:, context:)
  [draw, draw]
end`}},
}

// No two environments of a template ever draw the same value from any generator, though each had been used before the fork.
func TestGeneratorsDiffer(t *testing.T) {
	needRoot(t)
	if testing.Short() {
		t.Skip("forks thousands of environments")
	}
	d := open(t)
	for language, f := range draws {
		t.Run(language, func(t *testing.T) {
			p := park(t, d, specOf(t, f))
			var mu sync.Mutex
			seen := map[string]map[string]bool{}
			var group errgroup.Group
			group.SetLimit(8)
			forks := 0
			for end := time.Now().Add(enoughTime); forks < manyEnvironments && (forks < manyEnvironments/10 || time.Now().Before(end)); forks++ {
				group.Go(func() error {
					c, err := forkOne(context.Background(), p)
					if err != nil {
						return err
					}
					defer c.Close()
					answer, err := c.conn.Invoke(context.Background(), &runtimes.Event{RequestID: "r", Payload: []byte("1")})
					if err != nil {
						return err
					}
					var drawn []map[string]json.RawMessage
					if err := json.Unmarshal(answer, &drawn); err != nil {
						return err
					}
					mu.Lock()
					defer mu.Unlock()
					for _, values := range drawn {
						for name, value := range values {
							if seen[name] == nil {
								seen[name] = map[string]bool{}
							}
							seen[name][string(value)] = true
						}
					}
					return nil
				})
			}
			if err := group.Wait(); err != nil {
				t.Fatal(err)
			}
			for name, values := range seen {
				want := 2 * forks
				if name == "clock" {
					want = forks // the sequence and the node stay the same within one
				}
				if len(values) < want {
					t.Errorf("%s: %d different values of %d", name, len(values), want)
				}
			}
			t.Logf("%d generators in %d environments", len(seen), forks)
		})
	}
}

// replaced has put a generator of its own into OpenSSL, which gives the same to all and takes no fresh bytes, as libraries do.
var replaced = function{runtime: "python3.11", handler: "app.handler", files: map[string]string{"app.py": `
import ctypes, ssl
draw = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_ubyte), ctypes.c_int)
status = ctypes.CFUNCTYPE(ctypes.c_int)
def same(buffer, size):
    for i in range(size): buffer[i] = 4
    return 1
class Method(ctypes.Structure):
    _fields_ = [('seed', ctypes.c_void_p), ('bytes', draw), ('cleanup', ctypes.c_void_p), ('add', ctypes.c_void_p), ('pseudorand', draw), ('status', status)]
method = Method(None, draw(same), None, None, draw(same), status(lambda: 1))
with open('/proc/self/maps') as maps:
    libcrypto = ctypes.CDLL(next(line.split()[-1] for line in maps if '/libcrypto' in line))
if libcrypto.RAND_set_rand_method(ctypes.byref(method)) != 1: raise Exception('OpenSSL takes no generator')
if ssl.RAND_bytes(4) != b'\x04' * 4: raise Exception('the generator was not replaced')
def handler(event, context): return ssl.RAND_bytes(16).hex()
`}}

func TestReplacedGeneratorIsNotForked(t *testing.T) {
	needRoot(t)
	d := open(t)
	p := park(t, d, specOf(t, replaced))
	seen := map[string]bool{}
	for range 3 {
		c, err := forkOne(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := c.conn.Invoke(t.Context(), &runtimes.Event{RequestID: "r", Payload: []byte("1")})
		c.Close()
		if err != nil || seen[string(answer)] {
			t.Fatalf("%s, %v; others drew %v", answer, err, seen)
		}
		seen[string(answer)] = true
	}
}

// seeded are functions whose init has given generators seeds of its own; their answer is what comes next.
var seeded = map[string]function{
	"python": {runtime: "python3.11", handler: "app.handler", files: map[string]string{"app.py": `
import copy, random
own, drawn, renewed = random.Random(42), random.Random(7), random.Random(42)
random.seed(1); random.random(); random.gauss(0, 1); drawn.random()
renewed.seed()
fresh = random.Random()
class Own(random.Random): pass
mine, restored = Own(3), random.Random(5)
restored.setstate(fresh.getstate())
def handler(event, context):
    return dict(chosen=[own.random(), drawn.random(), mine.random(), random.gauss(0, 1), random.random()], fresh=[fresh.random(), renewed.random(), restored.random()])
`}},
	"numpy": {runtime: "python3.11", handler: "app.handler", files: map[string]string{"app.py": `
import sys
sys.path.append('/usr/lib/python3/dist-packages')
import numpy
numpy.random.seed(seed=42); numpy.random.rand()
own, fresh = numpy.random.default_rng(42), numpy.random.default_rng()
legacy = numpy.random.RandomState(); legacy.randn()
def handler(event, context):
    return dict(chosen=[own.random(), numpy.random.rand(), numpy.random.randn()], fresh=[fresh.random(), legacy.randn(), legacy.rand()])
`}},
	"numpy without a seed": {runtime: "python3.11", handler: "app.handler", files: map[string]string{"app.py": `
import sys
sys.path.append('/usr/lib/python3/dist-packages')
import numpy
numpy.random.randn()
def handler(event, context):
    return dict(chosen=[], fresh=[numpy.random.randn(), numpy.random.rand(), numpy.random.default_rng().random()])
`}},
	"ruby": {runtime: "ruby3.2", handler: "app.handler", files: map[string]string{"app.rb": `
srand(42)
3.times { rand }
OWN, FRESH = Random.new(7), Random.new
OWN.rand
def handler(event:, context:)
  { chosen: [rand, OWN.rand], fresh: [FRESH.rand] }
end`}},
}

// A seed that the function has chosen decides in a fork what it decides in an environment that was booted.
func TestChosenSeeds(t *testing.T) {
	needRoot(t)
	d := open(t)
	for name, f := range seeded {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(name, "numpy") {
				if _, err := os.Stat("/usr/lib/python3/dist-packages/numpy"); err != nil {
					t.Skip("numpy is not installed: apt-get install python3-numpy")
				}
			}
			spec := specOf(t, f)
			spec.Template = false
			booted := start(t, d, spec)
			conn := runtimes.NewFrames(booted.Channel())
			if err := conn.WaitInit(within(t)); err != nil {
				t.Fatal(err)
			}
			type answer struct{ Chosen, Fresh []float64 }
			ask := func(c runtimes.Conn) (a answer) {
				b, err := c.Invoke(within(t), &runtimes.Event{RequestID: "r", Payload: []byte("1")})
				if err == nil {
					err = json.Unmarshal(b, &a)
				}
				if err != nil {
					t.Fatal(err)
				}
				return a
			}
			want := ask(conn)
			seen := want.Fresh
			p := park(t, d, specOf(t, f))
			for range 3 {
				got := ask(mustFork(t, p).conn)
				if !slices.Equal(got.Chosen, want.Chosen) {
					t.Errorf("fork: %v, boot: %v", got.Chosen, want.Chosen)
				}
				for _, value := range got.Fresh {
					if slices.Contains(seen, value) {
						t.Errorf("%v came twice: %v", value, got.Fresh)
					}
				}
				seen = append(seen, got.Fresh...)
			}
		})
	}
}
