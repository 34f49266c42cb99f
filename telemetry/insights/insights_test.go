package insights

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var base = time.UnixMilli(1_700_000_000_000)

func report(id string, duration float64, extra string) string {
	return fmt.Sprintf("REPORT RequestId: %s\tDuration: %.2f ms\tBilled Duration: %.0f ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t%s\n", id, duration, duration+1, extra)
}

var lines = []string{
	"START RequestId: a Version: $LATEST\n",
	"user=ann, method:get, latency := 12\n",
	`{"level":"ERROR","code":500,"ok":true,"user":{"name":"bob"},"list":[{"id":7}]}`,
	"END RequestId: a\n",
	report("a", 3.01, "Init Duration: 110.10 ms\t"),
	report("b", 5, ""),
	report("c", 10.5, ""),
	`2026 INFO {"level":"INFO","code":200} and more`,
}

func run(t *testing.T, text string, limit int) [][]Field {
	t.Helper()
	q, err := Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	x := q.Run(limit)
	for i, line := range lines {
		e := Event{At: base.Add(time.Duration(i) * time.Minute), Stored: base.Add(time.Hour), Log: "1:g", Stream: fmt.Sprint("s", i%2), Message: line, Pointer: fmt.Sprint("p", i)}
		if err := x.Add(&e); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := x.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestQueries(t *testing.T) {
	for _, test := range []struct{ query, want string }{
		{"fields @timestamp, @logStream | limit 2", "@timestamp=2023-11-14 22:20:20.000 @logStream=s1 @ptr=p7\n@timestamp=2023-11-14 22:19:20.000 @logStream=s0 @ptr=p6"},
		{`filter @type = "REPORT" | stats avg(@duration), max(@initDuration) as cold, count(*), min(@duration)`, "avg(@duration)=6.17 cold=110.1 count(*)=3 min(@duration)=3.01"},
		{`filter @type = "REPORT" | stats max(@memorySize / 1000 / 1000) as m, max(@maxMemoryUsed / 1000 / 1000) as u, m - u as over`, "m=128 u=36 over=92"},
		{`filter ispresent(@initDuration) | fields @requestId, @initDuration, @billedDuration`, "@requestId=a @initDuration=110.1 @billedDuration=4 @ptr=p4"},
		{`filter @message like /ERROR/ | fields code, user.name, list.0.id, ok`, "code=500 user.name=bob list.0.id=7 ok=true @ptr=p2"},
		{`filter level = "INFO" and code < 300 | fields code + 1 as next, toupper(level)`, "next=201 toupper(level)=INFO @ptr=p7"},
		{`parse @message "user=*, method:*, latency := *" as @user, @method, @latency | filter @latency > 3 | display @user, @method`, "@user=ann @method=get @ptr=p1"},
		{`parse @message /user=(?<user2>.*?), method:(?<m>[a-z]+)/ | filter user2 = "ann" | display user2, m`, "user2=ann m=get @ptr=p1"},
		{`filter @type = "REPORT" | sort @duration desc | limit 2 | display @requestId`, "@requestId=c @ptr=p6\n@requestId=b @ptr=p5"},
		{`filter @type = "REPORT" | stats count(*) as n by bin(2m) as t | sort t desc`, "t=2023-11-14 22:18:00.000 n=2\nt=2023-11-14 22:16:00.000 n=1"},
		{`stats count(*) by @logStream | sort count(*) desc, @logStream asc`, "@logStream=s0 count(*)=4\n@logStream=s1 count(*)=4"},
		{`stats count_distinct(@logStream) as d, pct(@duration, 50) as p50, sum(@duration) as s, stddev(@billedDuration) as sd`, "d=2 p50=5 s=18.51 sd=4.1633"},
		{`filter @requestId in ["b", "c"] | stats latest(@requestId) as l, earliest(@requestId) as e, sortsLast(@requestId) as z`, "l=c e=b z=c"},
		{`fields @message | dedup @logStream | display @logStream, @ptr`, "@logStream=s1 @ptr=p7\n@logStream=s0 @ptr=p6"},
		{`filter @message not like "RequestId" and not isempty(level) | display level # a comment`, "level=INFO @ptr=p7\nlevel=ERROR @ptr=p2"},
		{`stats count(*) as n by @logStream | stats sum(n) as total`, "total=8"},
		{`filter @message =~ /^user/ | fields strlen(@message) as n, substr(@message, 5, 3) as s, replace("a-b", "-", "+") as r, concat("x", 1) as c`, "n=36 s=ann r=a+b c=x1 @ptr=p1"},
		{`filter missing != 1 | stats count(*) as n`, "n=8"},
		{`filter missing = 1 or missing < 1 | stats count(*) as n`, "n=0"},
		{"fields `user.name` | filter ispresent(`user.name`)", "user.name=bob @ptr=p2"},
		{`filter @type = "REPORT" | fields abs(-1) as a, ceil(1.2) as b, 7 % 4 as c, 2 ^ 3 as d, greatest(1, 5, 3) as e, coalesce(nope, "z") as f | limit 1 | display a, b, c, d, e, f`, "a=1 b=2 c=3 d=8 e=5 f=z @ptr=p6"},
		{`stats count(*) by bin(1h), @logStream | limit 1`, "bin(1h)=2023-11-14 22:00:00.000 @logStream=s0 count(*)=4"},
		{`filter isValidIp("1.2.3.4") and isIpv4InSubnet("1.2.3.4", "1.2.0.0/16") | stats count() as n`, "n=8"},
		{`FIELDS @requestId AS id | FILTER id LIKE "b" | LIMIT 5`, "id=b @ptr=p5"},
	} {
		var got []string
		for _, fields := range run(t, test.query, MaxRows) {
			var parts []string
			for _, f := range fields {
				parts = append(parts, f.Name+"="+f.Value)
			}
			got = append(got, strings.Join(parts, " "))
		}
		if diff := cmp.Diff(test.want, strings.Join(got, "\n")); diff != "" {
			t.Errorf("%s\n%s", test.query, diff)
		}
	}
}

func TestDefaultColumnsAndLimit(t *testing.T) {
	rows := run(t, `filter @logStream = "s0"`, 3)
	if len(rows) != 3 || rows[0][0].Name != "@timestamp" || rows[0][1].Name != "@message" || rows[0][2].Name != "@ptr" {
		t.Errorf("%v", rows)
	}
}

func TestRefused(t *testing.T) {
	for _, query := range []string{
		"", "|", "nonsense", "fields", "fields @a |", "filter", "filter a =", "filter (a", "limit 0", "limit 100001", "limit x", "stats count", "stats a by b",
		"filter avg(a) > 1", "stats avg(max(a))", "parse @message \"a*b*\" as x", "parse @message \"a\" as x", "parse @message /(/", "sort", "dedup", "stats pct(a)",
		"fields nope(a)", "fields abs()", "fields \"open", "filter a like 3", "filter a in 3", "pattern @message", "diff", "unmask a", "fields bin(x)",
		"fields @a ;", "filter " + strings.Repeat("(", 1000), "filter " + strings.Repeat("not ", 1000) + "a", strings.Repeat("fields a|", 100) + "fields a",
		"fields bin(0m)", "fields 1x",
	} {
		if _, err := Parse(query); err == nil {
			t.Errorf("%q is taken", query)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", query, err)
		}
	}
	if _, err := Parse("fields a | pattern @message"); err == nil || !strings.Contains(err.Error(), "pattern is not implemented") {
		t.Error(err)
	}
}

// What a run keeps is bounded, whatever comes.
func TestBounds(t *testing.T) {
	add := func(query string, n int, message func(i int) string) (*Run, error) {
		q, err := Parse(query)
		if err != nil {
			t.Fatal(err)
		}
		x := q.Run(MaxRows)
		for i := range n {
			if err := x.Add(&Event{At: base.Add(time.Duration(i)), Message: message(i), Pointer: fmt.Sprint(i)}); err != nil {
				return x, err
			}
		}
		return x, nil
	}
	number := func(i int) string { return fmt.Sprintf(`{"i":%d}`, i) }
	x, err := add("fields i", 3*MaxRows, number)
	if err != nil || len(x.kept) > 2*MaxRows {
		t.Errorf("%d rows are kept, %v", len(x.kept), err)
	}
	if rows, err := x.Finish(); err != nil || len(rows) != MaxRows || rows[0][0].Value != fmt.Sprint(3*MaxRows-1) {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	if x, err = add("dedup i", 3*MaxRows, number); err != nil || len(x.kept) > 2*MaxRows || len(x.seen) > 2*MaxRows {
		t.Errorf("%d rows are kept, %v", len(x.kept), err)
	}
	if _, err = add("stats count(*) by i", 2*MaxRows, number); !errors.Is(err, ErrTooMuch) {
		t.Errorf("too many groups: %v", err)
	}
	big := strings.Repeat("x", 1<<20)
	if x, err = add("fields @message", 300, func(int) string { return big }); !errors.Is(err, ErrTooMuch) || x.size > 2*MaxBytes {
		t.Errorf("%d bytes are kept, %v", x.size, err)
	}
	if x, err = add("fields @message | limit 3", 300, func(int) string { return big }); err != nil || x.size > MaxBytes {
		t.Errorf("%d bytes are kept, %v", x.size, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, query := range []string{
		"fields @timestamp, @message | sort @timestamp desc | limit 20", `filter @type = "REPORT" | stats avg(@duration) as a, pct(@x, 99.9) by bin(5m), b | sort a`,
		`parse @message /(?<a>x+)/ | parse b "*:*" as c, d | dedup a`, "filter a in [1, 'x'] and not (b like /y/ or c =~ 'z') # end", "display substr(a, 1, 2), -3 ^ 2 % 5 | limit 5",
		"fields datefloor(@timestamp, 1h), `a b`",
	} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := Parse(text)
		if err != nil {
			return
		}
		x := q.Run(100)
		for i, line := range lines {
			if err := x.Add(&Event{At: base.Add(time.Duration(i) * time.Second), Message: line, Pointer: fmt.Sprint(i)}); err != nil {
				return
			}
		}
		if rows, err := x.Finish(); err == nil && len(rows) > 100 {
			t.Errorf("%d rows", len(rows))
		}
	})
}

// What one event costs is bounded, since a query can be stopped between events only.
func TestExpensiveQueriesAreRefused(t *testing.T) {
	repeated := strings.Repeat("[ab]{1000}", 30)
	for _, query := range []string{
		"filter @message like /" + repeated + "/",
		"filter " + strings.Repeat("@message like /[ab]{1000}/ or ", 30) + "x",
		"parse @message /" + strings.Repeat("(.)", 200) + "/",
		`parse @message "` + strings.Repeat("* ", 200) + `" as ` + strings.TrimSuffix(strings.Repeat("a,", 200), ","),
	} {
		if _, err := Parse(query); err == nil || !strings.Contains(err.Error(), "too long") {
			t.Errorf("%.60s: %v", query, err)
		}
	}
	if _, err := Parse(`parse @message "[*] * - user=* path=* took=* ms status=* bytes=* agent=*" as a,b,c,d,e,f,g,h | filter a like /(?i)error|timed out|[a-f0-9]{8}-[a-f0-9]{4}/`); err != nil {
		t.Error(err)
	}
}

// Rows that are sorted by what their messages say do not keep all else that their messages say.
func TestSortKeepsNoFoundFields(t *testing.T) {
	q, err := Parse("sort a | limit 5000 | sort b | filter c > 0")
	if err != nil {
		t.Fatal(err)
	}
	x := q.Run(MaxRows)
	for i := range 8000 {
		e := Event{At: time.UnixMilli(int64(i)), Message: fmt.Sprintf(`{"a": %d, "b": %d, "c": 1}`, i*7%8000, i)}
		if err := x.Add(&e); err != nil {
			t.Fatal(err)
		}
	}
	x.trim()
	for _, r := range x.kept {
		if r.found != nil {
			t.Fatal("a row keeps the fields of its message")
		}
	}
	rows := slices.Clone(x.kept)
	for _, c := range x.rest {
		if rows, err = x.all(c, rows); err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			if r.found != nil {
				t.Fatalf("after %T a row keeps the fields of its message", c)
			}
		}
	}
	if got := rows[0].get("a"); len(rows) != 5000 || got != 0.0 {
		t.Errorf("%d rows, the first has a = %v", len(rows), got)
	}
}

// One row cannot be made large: the texts that it has are bounded together, whatever becomes of it.
func TestOneRowIsBounded(t *testing.T) {
	e := Event{Message: strings.Repeat("x", 256<<10)}
	for _, text := range []string{
		"fields " + strings.TrimSuffix(strings.Repeat("concat(@message,1) as a, concat(a,a) as b,", 200), ",") + " | stats count(*)",
		"fields @message as a0" + func() (more string) {
			for i := range 300 {
				more += fmt.Sprintf(",toupper(@message) as a%d", i)
			}
			return more
		}() + " | stats count(*)",
	} {
		q, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		r := &row{event: &e}
		apply(q.commands[0], r)
		size := 0
		for _, v := range r.set {
			size += len(toText(v))
		}
		if size == 0 || size > maxRow {
			t.Errorf("a row of %d bytes", size)
		}
	}
}

func TestResultsAreBounded(t *testing.T) {
	columns := "@message"
	for i := range 40 {
		columns += fmt.Sprint(",m.f", i)
	}
	q, err := Parse("fields " + columns)
	if err != nil {
		t.Fatal(err)
	}
	x := q.Run(MaxRows)
	var m strings.Builder
	for i := range 40 {
		fmt.Fprintf(&m, `,"f%d":1`, i)
	}
	message := `{"m":{` + m.String()[1:] + `}, "pad": "` + strings.Repeat("x", 5400) + `"}`
	for range 10_000 {
		if err := x.Add(&Event{Message: message}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := x.Finish(); !errors.Is(err, ErrTooMuch) {
		t.Errorf("results of over 64 MiB: %v", err)
	}
}

func TestTheSameFieldsAreFoundEachTime(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"z": 1`)
	for i := range 400 {
		fmt.Fprintf(&b, `, "f%03d": %d`, i, i)
	}
	e := Event{Message: b.String() + "}"}
	want := discover(&e)
	for range 5 {
		if got := discover(&e); len(got) != maxDiscovered || !maps.Equal(got, want) {
			t.Fatal("other fields")
		}
	}
}
