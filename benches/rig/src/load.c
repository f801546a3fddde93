// A bounded HTTP/1.1 load generator for the loopback interface: one thread, epoll, GET-like requests.
//
// Closed loop (the default), constant rate, a connection per request, or holding idle connections. It checks
// every response and prints one JSON object. It never runs longer than it was told plus a grace period, and
// refuses targets outside 127.0.0.0/8.
//
//     closed loop      connect ─▶ send ─▶ head ─▶ body ─▶ send ─▶ …
//     --rate           as above, but a connection rests until a request is due; latency counts from the due
//                      time, so a stalled proxy is charged for the requests it delayed
//     --churn          … ─▶ body ─▶ close ─▶ connect ─▶ …; latency includes the connect
//     --hold           one request per connection, then all stay open until standard input ends

#include "net.h"

#include "histogram.h"
#include "procstat.h"

#include <signal.h>
#include <strings.h>
#include <sys/prctl.h>
#include <time.h>

enum {
    REQUESTS_MAX = 64,
    REQUEST_SIZE_MAX = 65536,
    PIDS_MAX = 256,
    CONNECTIONS_MAX = 20000,
    SECONDS_MAX = 600,
    GRACE_SECONDS = 15,
    HOLD_SECONDS_MAX = 120,
    HEAD_READ = 4096, // small, so that a large body stays in the kernel
    HEAD_MAX = 32768,
    DISCARD_MAX = 1 << 20,
    OPENING_MAX = 64, // --hold: connections being opened at once
    SOURCE_ADDRESSES = 16,
    ERRORS_MAX = 100000,
    IDLE_WAIT_NS = 100000000,
};

enum mode { CLOSED_LOOP, CONSTANT_RATE, CHURN, HOLD };
enum phase { CONNECTING, RESTING, HEAD, BODY };

struct request {
    char *bytes;
    size_t length;
    char upstream[16]; // the X-Backend that must answer; empty: any
};

struct connection {
    int fd;
    enum phase phase;
    bool waits_for_room, closes_after, in_ring;
    struct request *request;
    size_t sent;
    uint64_t started; // when the request was sent, due, or its connection begun: see the modes above
    uint64_t body_left;
    char *partial; // a head that has not wholly arrived
    size_t partial_length;
};

struct head {
    bool ok, is_success, from_expected, sets_cookie, closes;
    int64_t content_length;
};

static struct {
    enum mode mode;
    struct sockaddr_in target;
    int connections;
    double seconds, warmup, rate;
    long content_length; // of every response; -1: any
    struct request requests[REQUESTS_MAX];
    int request_count;
    pid_t pids[PIDS_MAX];
    int pid_count;
} options = {.connections = 64, .seconds = 5, .warmup = 0.5, .content_length = -1};

static struct {
    uint64_t requests, errors, non2xx, wrong_upstream, wrong_length, set_cookie, bytes, reconnects, backlog_max;
} totals; // of the measuring window, except errors while holding

static struct connection *connections;
static int epoll;
static bool measuring;
static uint64_t errors_ever;
static int held; // --hold: connections that had their response
static struct histogram latencies;

// --rate: request number n is due at first_due + n * interval. Resting connections wait in a ring; one that is
// closed there keeps its place while it is reopened, so the ring never holds a connection twice.
static uint64_t first_due, issued;
static double interval_ns;
static struct connection **resting;
static int resting_first, resting_count;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t due_at(uint64_t number) { return first_due + (uint64_t)((double)number * interval_ns); }

// ---- Connections ---------------------------------------------------------------------------------------------

static void open_connection(struct connection *c) {
    static unsigned source;
    c->fd = tcp_socket();
    c->phase = CONNECTING;
    c->sent = c->partial_length = 0;
    c->closes_after = false;
    c->waits_for_room = true;
    no_delay(c->fd);
    if (options.mode == CHURN || options.mode == HOLD) {
        // Several source addresses, so that ports in TIME_WAIT do not run out.
        int one = 1;
        struct sockaddr_in from = loopback(0);
        from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + source++ % SOURCE_ADDRESSES);
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(c->fd, (struct sockaddr *)&from, sizeof from))
            die("bind");
    }
    if (connect(c->fd, (struct sockaddr *)&options.target, sizeof options.target) && errno != EINPROGRESS)
        die("connect");
    watch(epoll, EPOLL_CTL_ADD, c->fd, EPOLLIN | EPOLLOUT, c);
}

static void reopen(struct connection *c) {
    close(c->fd);
    c->started = now_ns();
    open_connection(c);
}

static void fail(struct connection *c) {
    bool expected = c->phase == RESTING; // an idle connection may be closed at any time
    totals.reconnects += measuring;
    if (!expected) {
        totals.errors += measuring || options.mode == HOLD;
        if (++errors_ever > ERRORS_MAX) {
            fprintf(stderr, "load: gave up after %d errors\n", ERRORS_MAX);
            exit(3);
        }
    }
    reopen(c);
}

static void wait_for_room(struct connection *c, bool wait) {
    if (c->waits_for_room == wait)
        return;
    c->waits_for_room = wait;
    watch(epoll, EPOLL_CTL_MOD, c->fd, wait ? EPOLLIN | EPOLLOUT : EPOLLIN, c);
}

static void send_rest(struct connection *c) {
    ssize_t sent = send(c->fd, c->request->bytes + c->sent, c->request->length - c->sent, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN)
        return; // the reason comes as EPOLLERR or EPOLLHUP, which is always reported
    c->sent += sent < 0 ? 0 : (size_t)sent;
    wait_for_room(c, c->sent < c->request->length);
}

static void start(struct connection *c, uint64_t started) {
    c->phase = HEAD;
    c->sent = c->partial_length = 0;
    c->started = started;
    send_rest(c);
}

// The connection can carry the next request.
static void ready(struct connection *c, uint64_t now) {
    if (options.mode != CONSTANT_RATE) {
        start(c, now);
    } else if (due_at(issued) <= now) {
        start(c, due_at(issued++));
    } else {
        c->phase = RESTING;
        wait_for_room(c, false);
        if (!c->in_ring)
            resting[(resting_first + resting_count++) % options.connections] = c;
        c->in_ring = true;
    }
}

// Starts all requests that are due while connections rest; returns how long to sleep at most.
static uint64_t start_due(uint64_t now) {
    uint64_t due;
    while ((due = due_at(issued)) <= now) {
        if (resting_count == 0) {
            uint64_t backlog = (uint64_t)((double)(now - due) / interval_ns) + 1;
            if (measuring && backlog > totals.backlog_max)
                totals.backlog_max = backlog;
            return IDLE_WAIT_NS;
        }
        struct connection *c = resting[resting_first];
        resting_first = (resting_first + 1) % options.connections;
        resting_count--;
        c->in_ring = false;
        if (c->phase == RESTING) { // else it was closed meanwhile and is being reopened
            issued++;
            start(c, due);
        }
    }
    return due - now;
}

// ---- Responses -----------------------------------------------------------------------------------------------

// The value of the field when `line` is that field, else NULL. `name` ends in a colon.
static const char *field(const char *line, const char *end, const char *name, size_t name_length) {
    if ((size_t)(end - line) <= name_length || strncasecmp(line, name, name_length) != 0)
        return NULL;
    for (line += name_length; *line == ' '; line++)
        ;
    return line;
}
#define FIELD(line, end, name) field(line, end, name, sizeof name - 1)

// `end` points at the empty line's CR.
static struct head parse_head(const char *head, const char *end, const char *upstream) {
    struct head parsed = {.content_length = -1};
    if (end - head < 14 || memcmp(head, "HTTP/1.", 7) != 0)
        return parsed;
    parsed.is_success = head[9] == '2';
    parsed.from_expected = !*upstream;
    const char *line = memchr(head, '\n', (size_t)(end - head));
    while (line && ++line < end) {
        const char *value, *stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop)
            break;
        switch (*line | 0x20) {
        case 'c':
            if ((value = FIELD(line, stop, "content-length:")))
                parsed.content_length = strtoll(value, NULL, 10);
            else if ((value = FIELD(line, stop, "connection:")))
                parsed.closes = strncasecmp(value, "close", 5) == 0;
            break;
        case 's':
            parsed.sets_cookie |= FIELD(line, stop, "set-cookie:") != NULL;
            break;
        case 'x':
            if ((value = FIELD(line, stop, "x-backend:")) && *upstream) {
                size_t length = strlen(upstream);
                parsed.from_expected = strncmp(value, upstream, length) == 0 && value[length] == '\r';
            }
            break;
        }
        line = stop;
    }
    parsed.ok = parsed.content_length >= 0; // proxies must keep the framing of what the backend sends
    return parsed;
}

static void complete(struct connection *c) {
    uint64_t now = now_ns();
    if (measuring) {
        totals.requests++;
        histogram_add(&latencies, now - c->started);
    }
    if (options.mode == CHURN) {
        reopen(c);
    } else if (options.mode == HOLD) {
        c->phase = RESTING;
        held++;
    } else if (c->closes_after) {
        totals.reconnects += measuring;
        reopen(c);
    } else {
        ready(c, now);
    }
}

static void read_body(struct connection *c) {
    // TCP throws away what MSG_TRUNC receives without copying it, so a large body costs this side little.
    static char untouched[DISCARD_MAX];
    for (int turn = 0; turn < 16; turn++) {
        size_t want = c->body_left < DISCARD_MAX ? c->body_left : DISCARD_MAX;
        ssize_t got = recv(c->fd, untouched, want, MSG_DONTWAIT | MSG_TRUNC);
        if (got <= 0) {
            if (got == 0 || errno != EAGAIN)
                fail(c);
            return;
        }
        totals.bytes += measuring ? (uint64_t)got : 0;
        c->body_left -= (uint64_t)got;
        if (c->body_left == 0) {
            complete(c);
            return;
        }
        if (got < 65536)
            return; // most likely drained; if not, epoll says so
    }
}

static void keep_partial(struct connection *c, const char *bytes, size_t length) {
    if (!c->partial && !(c->partial = malloc(HEAD_MAX)))
        die("malloc");
    memcpy(c->partial, bytes, length);
    c->partial_length = length;
}

static void read_head(struct connection *c) {
    static char buffer[HEAD_MAX + HEAD_READ];
    size_t length = c->partial_length;
    if (length)
        memcpy(buffer, c->partial, length);
    ssize_t got = recv(c->fd, buffer + length, HEAD_READ, MSG_DONTWAIT);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            fail(c);
        return;
    }
    totals.bytes += measuring ? (uint64_t)got : 0;
    length += (size_t)got;
    char *end = memmem(buffer, length, "\r\n\r\n", 4);
    if (!end && length <= HEAD_MAX) {
        keep_partial(c, buffer, length);
        return;
    }
    if (!end) {
        fail(c);
        return;
    }
    struct head head = parse_head(buffer, end + 2, c->request->upstream);
    size_t behind = length - (size_t)(end + 4 - buffer);
    if (!head.ok || behind > (uint64_t)head.content_length) {
        fail(c);
        return;
    }
    if (measuring) {
        totals.non2xx += !head.is_success;
        totals.wrong_upstream += !head.from_expected;
        totals.wrong_length += options.content_length >= 0 && head.content_length != options.content_length;
        totals.set_cookie += head.sets_cookie;
    }
    c->closes_after = head.closes;
    c->partial_length = 0;
    c->body_left = (uint64_t)head.content_length - behind;
    if (c->body_left == 0)
        complete(c);
    else
        c->phase = BODY;
}

static void on_event(struct connection *c, uint32_t events) {
    switch (c->phase) {
    case CONNECTING:
        if (events & (EPOLLERR | EPOLLHUP))
            fail(c);
        else if (events & EPOLLOUT && (options.mode == CHURN || options.mode == HOLD))
            start(c, c->started);
        else if (events & EPOLLOUT)
            ready(c, now_ns());
        break;
    case RESTING:
        // Closed while it rested, or bytes that nobody asked for.
        if (options.mode == HOLD)
            held--;
        fail(c);
        break;
    case HEAD:
        if (c->waits_for_room && events & EPOLLOUT)
            send_rest(c);
        if (events & ~(uint32_t)EPOLLOUT)
            read_head(c);
        break;
    case BODY:
        read_body(c);
        break;
    }
}

// ---- Options -------------------------------------------------------------------------------------------------

static void usage(const char *why) {
    fprintf(stderr,
            "load: %s\n"
            "usage: load --target 127.0.0.1:PORT --request FILE [--upstream NAME] [--request …] [options]\n"
            "  --request FILE     the bytes of one request; several are spread over the connections\n"
            "  --upstream NAME    the X-Backend that must answer the request before it\n"
            "  --length N         the Content-Length that every response must have\n"
            "  --connections N    1 to %d (64)\n"
            "  --seconds S        of measuring, 0.05 to %d (5)      --warmup S   before it (0.5)\n"
            "  --pids A,B         report the CPU time these processes take meanwhile\n"
            "  --rate R           requests per second, 1 to 1000000, instead of a closed loop\n"
            "  --churn            a new connection for each request\n"
            "  --hold             one request per connection, then hold them until standard input ends (%d s)\n",
            why, CONNECTIONS_MAX, SECONDS_MAX, HOLD_SECONDS_MAX);
    exit(2);
}

static double parse_decimal(const char *option, const char *text, double low, double high) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= low && value <= high)) {
        fprintf(stderr, "%s: expected a number from %g to %g, got \"%s\"\n", option, low, high, text);
        exit(2);
    }
    return value;
}

static void parse_target(char *text) {
    char *colon = strchr(text, ':');
    if (!colon)
        usage("--target needs ADDRESS:PORT");
    *colon = 0;
    options.target.sin_family = AF_INET;
    options.target.sin_port = htons((uint16_t)parse_number("--target", colon + 1, 1, 65535));
    if (inet_pton(AF_INET, text, &options.target.sin_addr) != 1 || ntohl(options.target.sin_addr.s_addr) >> 24 != 127)
        usage("--target must be an address in 127.0.0.0/8");
}

static void read_request(const char *path) {
    if (options.request_count == REQUESTS_MAX)
        usage("too many --request");
    struct request *request = &options.requests[options.request_count++];
    FILE *file = fopen(path, "r");
    if (!file || !(request->bytes = malloc(REQUEST_SIZE_MAX)))
        die(path);
    request->length = fread(request->bytes, 1, REQUEST_SIZE_MAX, file);
    fclose(file);
}

static void expect_upstream(const char *name) {
    if (options.request_count == 0 || strlen(name) >= sizeof options.requests[0].upstream)
        usage("--upstream needs a --request before it and a name of at most 15 bytes");
    strcpy(options.requests[options.request_count - 1].upstream, name);
}

static void parse_pids(char *list) {
    for (char *pid = strtok(list, ","); pid; pid = strtok(NULL, ",")) {
        if (options.pid_count == PIDS_MAX)
            usage("too many --pids");
        options.pids[options.pid_count++] = (pid_t)parse_number("--pids", pid, 1, 1 << 30);
    }
}

static void parse_options(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (!strcmp(name, "--churn")) {
            options.mode = CHURN;
            continue;
        }
        if (!strcmp(name, "--hold")) {
            options.mode = HOLD;
            continue;
        }
        if (++i == argc)
            usage("an option is unknown or lacks its value");
        char *value = argv[i];
        if (!strcmp(name, "--target"))
            parse_target(value);
        else if (!strcmp(name, "--request"))
            read_request(value);
        else if (!strcmp(name, "--upstream"))
            expect_upstream(value);
        else if (!strcmp(name, "--length"))
            options.content_length = parse_number(name, value, 0, 1 << 30);
        else if (!strcmp(name, "--connections"))
            options.connections = (int)parse_number(name, value, 1, CONNECTIONS_MAX);
        else if (!strcmp(name, "--seconds"))
            options.seconds = parse_decimal(name, value, 0.05, SECONDS_MAX);
        else if (!strcmp(name, "--warmup"))
            options.warmup = parse_decimal(name, value, 0, SECONDS_MAX);
        else if (!strcmp(name, "--pids"))
            parse_pids(value);
        else if (!strcmp(name, "--rate")) {
            options.rate = parse_decimal(name, value, 1, 1000000);
            options.mode = CONSTANT_RATE;
        } else
            usage("an option is unknown");
    }
    if (options.target.sin_port == 0 || options.request_count == 0)
        usage("--target and --request are needed");
}

// ---- Runs ----------------------------------------------------------------------------------------------------

static void turn(uint64_t wait_ns) {
    static struct epoll_event events[EVENTS_PER_TURN];
    struct timespec wait = {0, (long)(wait_ns < IDLE_WAIT_NS ? wait_ns : IDLE_WAIT_NS)};
    int count = epoll_pwait2(epoll, events, EVENTS_PER_TURN, &wait, NULL);
    for (int i = 0; i < count; i++)
        on_event(events[i].data.ptr, events[i].events);
}

static void hold(void) {
    int opened = 0;
    uint64_t give_up = now_ns() + (uint64_t)HOLD_SECONDS_MAX / 2 * 1000000000u;
    while (held < options.connections && now_ns() < give_up) {
        while (opened < options.connections && opened < held + OPENING_MAX) {
            connections[opened].started = now_ns();
            open_connection(&connections[opened++]);
        }
        turn(IDLE_WAIT_NS);
    }
    printf("{\"open\": %d, \"errors\": %lu}\n", held, totals.errors);
    fflush(stdout);
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
}

static double own_cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void run_until(uint64_t end) {
    for (uint64_t now; (now = now_ns()) < end;) {
        uint64_t wait = end - now;
        if (options.mode == CONSTANT_RATE) {
            uint64_t next = start_due(now);
            wait = next < wait ? next : wait;
        }
        turn(wait);
    }
}

static void print_results(double seconds, struct usage before, struct usage after, double own_cpu) {
    printf("{\"requests\": %lu, \"seconds\": %.6f, \"errors\": %lu, \"non2xx\": %lu, \"wrong_upstream\": %lu, "
           "\"wrong_length\": %lu, \"set_cookie\": %lu, \"bytes\": %lu, \"reconnects\": %lu, \"backlog_max\": %lu, ",
           totals.requests, seconds, totals.errors, totals.non2xx, totals.wrong_upstream, totals.wrong_length,
           totals.set_cookie, totals.bytes, totals.reconnects, totals.backlog_max);
    printf("\"user_ticks\": %lu, \"system_ticks\": %lu, \"cpu_ns\": %lu, \"voluntary_switches\": %lu, "
           "\"load_cpu_seconds\": %.4f, ",
           after.user_ticks - before.user_ticks, after.system_ticks - before.system_ticks,
           after.cpu_ns - before.cpu_ns, after.voluntary_switches - before.voluntary_switches, own_cpu);
    printf("\"latency_us\": {\"mean\": %.1f, \"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"p999\": %.1f, "
           "\"max\": %.1f}}\n",
           histogram_mean_us(&latencies), histogram_quantile_us(&latencies, .5),
           histogram_quantile_us(&latencies, .9), histogram_quantile_us(&latencies, .99),
           histogram_quantile_us(&latencies, .999), (double)latencies.max / 1000);
}

static void measure(void) {
    uint64_t begin = now_ns();
    first_due = begin + 50000000; // leaves the connections time to open
    interval_ns = options.mode == CONSTANT_RATE ? 1e9 / options.rate : 0;
    for (int i = 0; i < options.connections; i++) {
        connections[i].started = begin;
        open_connection(&connections[i]);
    }
    run_until(begin + (uint64_t)(options.warmup * 1e9));

    struct usage before = usage_of(options.pids, options.pid_count);
    double own_before = own_cpu_seconds();
    uint64_t from = now_ns();
    measuring = true;
    run_until(from + (uint64_t)(options.seconds * 1e9));
    measuring = false;
    double seconds = (double)(now_ns() - from) / 1e9;
    struct usage after = usage_of(options.pids, options.pid_count);
    print_results(seconds, before, after, own_cpu_seconds() - own_before);
}

int main(int argc, char **argv) {
    parse_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    raise_file_limit();
    // Whatever happens, this process ends.
    alarm(options.mode == HOLD ? HOLD_SECONDS_MAX : (unsigned)(options.warmup + options.seconds) + GRACE_SECONDS);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    connections = calloc((size_t)options.connections, sizeof *connections);
    resting = calloc((size_t)options.connections, sizeof *resting);
    if (epoll < 0 || !connections || !resting)
        die("set-up");
    for (int i = 0; i < options.connections; i++)
        connections[i].request = &options.requests[i % options.request_count];
    if (options.mode == HOLD)
        hold();
    else
        measure();
    return 0;
}
