// The rig's upstreams: one thread, several loopback ports, keep-alive and pipelined HTTP/1.1.
//
//     backend PORT...        port 0 lets the kernel choose; all ports are printed on one line when it listens
//
//     GET /        200, about 200 bytes in all        GET /b/N     200 with N bytes of body
//     otherwise    404
//
// Every response names its port in X-Backend, so that a client can tell which upstream answered. Request
// bodies are not read. It ends with its parent, and by itself after an hour.

#include "net.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>

enum {
    PORTS_MAX = 16,
    INPUT_SIZE = 16384,
    OUTPUT_SIZE = 32768,
    INLINE_BODY_MAX = 8192, // larger bodies go by sendfile, so that they cost this side almost nothing
    FILE_SIZE = 4 << 20,
    LIFETIME_SECONDS = 3600,
};

struct port {
    int number, fd;
    char small[512]; // the ready response to GET /
    size_t small_length;
};

struct connection {
    int fd;
    struct port *port;
    bool closing, waits_for_room;
    char *kept; // input that did not hold a whole request, or came while output waited
    size_t kept_length;
    char *unsent; // output that did not fit the socket
    size_t unsent_length;
    size_t file_left, file_sent; // body bytes still to be sent from the file
    struct connection *next_free;
};

enum progress { DONE, BLOCKED, BROKEN };

static struct port ports[PORTS_MAX];
static int port_count, epoll, body_file;
static char filler[INLINE_BODY_MAX];
static struct connection *free_list;

static void drop(struct connection *c) {
    close(c->fd);
    free(c->kept);
    free(c->unsent);
    c->next_free = free_list;
    free_list = c;
}

static void keep(char **buffer, size_t *length, const char *bytes, size_t count) {
    char *grown = realloc(*buffer, *length + count);
    if (!grown)
        die("realloc");
    memcpy(grown + *length, bytes, count);
    *buffer = grown;
    *length += count;
}

// Sends, keeping what the socket does not take.
static enum progress send_or_keep(struct connection *c, const char *bytes, size_t length, int flags) {
    ssize_t sent = send(c->fd, bytes, length, MSG_NOSIGNAL | flags);
    if (sent < 0) {
        if (errno != EAGAIN)
            return BROKEN;
        sent = 0;
    }
    if ((size_t)sent == length)
        return DONE;
    keep(&c->unsent, &c->unsent_length, bytes + sent, length - (size_t)sent);
    return BLOCKED;
}

static enum progress send_file(struct connection *c) {
    while (c->file_left) {
        off_t offset = (off_t)(c->file_sent % FILE_SIZE);
        size_t want = FILE_SIZE - (size_t)offset;
        if (want > c->file_left)
            want = c->file_left;
        ssize_t sent = sendfile(c->fd, body_file, &offset, want);
        if (sent <= 0)
            return sent < 0 && errno == EAGAIN ? BLOCKED : BROKEN;
        c->file_left -= (size_t)sent;
        c->file_sent += (size_t)sent;
    }
    return DONE;
}

static enum progress resume(struct connection *c) {
    if (c->unsent) {
        char *bytes = c->unsent;
        size_t length = c->unsent_length;
        c->unsent = NULL;
        c->unsent_length = 0;
        enum progress progress = send_or_keep(c, bytes, length, c->file_left ? MSG_MORE : 0);
        free(bytes);
        if (progress != DONE)
            return progress;
    }
    return send_file(c);
}

// Appends the answer to the request head at `head` to `out`. A body too large for that is left in file_left.
static size_t answer(struct connection *c, const char *head, size_t length, char *out) {
    const char *target = memchr(head, ' ', length);
    target = target ? target + 1 : "";
    // Matches both spellings of the field's name without a case-insensitive search.
    if (memmem(head, length, "onnection: close", 16) || memmem(head, length, "HTTP/1.0\r\n", 10))
        c->closing = true;
    if (target[0] == '/' && target[1] == ' ') {
        memcpy(out, c->port->small, c->port->small_length);
        return c->port->small_length;
    }
    if (strncmp(target, "/b/", 3) != 0)
        return (size_t)sprintf(out, "HTTP/1.1 404 Not Found\r\nX-Backend: %d\r\nContent-Length: 0\r\n\r\n",
                               c->port->number);
    long body = strtol(target + 3, NULL, 10);
    if (body < 0)
        body = 0;
    size_t used = (size_t)sprintf(
        out, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Backend: %d\r\nContent-Length: %ld\r\n\r\n",
        c->port->number, body);
    if (body <= INLINE_BODY_MAX) {
        memcpy(out + used, filler, (size_t)body);
        return used + (size_t)body;
    }
    c->file_left = (size_t)body;
    c->file_sent = 0;
    return used;
}

// Answers whole requests in `input` until it runs out or output has to wait. Adds to *used what was consumed.
static enum progress serve(struct connection *c, const char *input, size_t length, size_t *used) {
    char out[OUTPUT_SIZE];
    size_t pending = 0;
    while (!c->closing && c->file_left == 0 && pending < OUTPUT_SIZE - INLINE_BODY_MAX - 512) {
        const char *head = input + *used;
        const char *end = memmem(head, length - *used, "\r\n\r\n", 4);
        if (!end)
            break;
        size_t head_length = (size_t)(end + 4 - head);
        pending += answer(c, head, head_length, out + pending);
        *used += head_length;
    }
    if (pending == 0)
        return DONE;
    enum progress progress = send_or_keep(c, out, pending, c->file_left ? MSG_MORE : 0);
    return progress == DONE ? send_file(c) : progress;
}

// Serves until input runs out. Returns false when the connection was dropped.
static bool run(struct connection *c, const char *input, size_t length) {
    size_t used = 0, before;
    enum progress progress;
    do {
        before = used;
        progress = serve(c, input, length, &used);
    } while (progress == DONE && used > before && used < length && !c->closing);
    if (progress == BROKEN || (progress == DONE && c->closing) || length - used > INPUT_SIZE) {
        drop(c);
        return false;
    }
    if (used < length)
        keep(&c->kept, &c->kept_length, input + used, length - used);
    if ((progress == BLOCKED) != c->waits_for_room) {
        c->waits_for_room = progress == BLOCKED;
        watch(epoll, EPOLL_CTL_MOD, c->fd, c->waits_for_room ? EPOLLOUT : EPOLLIN, c);
    }
    return true;
}

static bool run_kept(struct connection *c) {
    char *bytes = c->kept;
    size_t length = c->kept_length;
    c->kept = NULL;
    c->kept_length = 0;
    bool alive = run(c, bytes, length);
    free(bytes);
    return alive;
}

static void on_readable(struct connection *c) {
    static char input[INPUT_SIZE];
    ssize_t got = recv(c->fd, input, sizeof input, MSG_DONTWAIT);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            drop(c);
        return;
    }
    if (!c->kept) {
        run(c, input, (size_t)got);
        return;
    }
    keep(&c->kept, &c->kept_length, input, (size_t)got);
    run_kept(c);
}

static void on_writable(struct connection *c) {
    enum progress progress = resume(c);
    if (progress == BROKEN || (progress == DONE && c->closing))
        drop(c);
    else if (progress == DONE)
        run_kept(c); // also goes back to waiting for input
}

static void on_listener(struct port *port) {
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(port->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        no_delay(fd);
        struct connection *c = free_list;
        if (c)
            free_list = c->next_free;
        else if (!(c = malloc(sizeof *c)))
            die("malloc");
        *c = (struct connection){.fd = fd, .port = port};
        watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN, c);
    }
}

static void open_port(int number) {
    struct port *port = &ports[port_count++];
    port->number = number;
    port->fd = listen_on_loopback(&port->number);
    port->small_length =
        (size_t)snprintf(port->small, sizeof port->small,
                         "HTTP/1.1 200 OK\r\nServer: rig\r\nContent-Type: text/plain\r\nCache-Control: no-cache\r\n"
                         "X-Backend: %d\r\nContent-Length: 64\r\n\r\n%.64s",
                         port->number, filler);
    watch(epoll, EPOLL_CTL_ADD, port->fd, EPOLLIN, port);
    printf("%d%c", port->number, ' ');
}

static void make_body_file(void) {
    body_file = memfd_create("body", MFD_CLOEXEC);
    if (body_file < 0 || ftruncate(body_file, FILE_SIZE))
        die("memfd");
    char *bytes = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, body_file, 0);
    if (bytes == MAP_FAILED)
        die("mmap");
    memset(bytes, 'f', FILE_SIZE);
    munmap(bytes, FILE_SIZE);
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > PORTS_MAX + 1) {
        fprintf(stderr, "usage: backend PORT...   (1 to %d ports, 0: any free one)\n", PORTS_MAX);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    alarm(LIFETIME_SECONDS);
    raise_file_limit();
    memset(filler, 'b', sizeof filler);
    make_body_file();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 1; i < argc; i++)
        open_port((int)parse_number("PORT", argv[i], 0, 65535));
    printf("\n");
    fflush(stdout);

    static struct epoll_event events[EVENTS_PER_TURN];
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS_PER_TURN, -1);
        for (int i = 0; i < count; i++) {
            void *data = events[i].data.ptr;
            if (data >= (void *)ports && data < (void *)(ports + PORTS_MAX))
                on_listener(data);
            else if (((struct connection *)data)->waits_for_room)
                on_writable(data);
            else
                on_readable(data);
        }
    }
}
