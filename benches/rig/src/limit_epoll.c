// A bare byte forwarder on epoll: what a proxy on this kernel costs that reads no HTTP at all.
//
//     limit_epoll PORT UPSTREAM_PORT...      one upstream connection per client connection, taken in turn

#include "net.h"

#include <signal.h>

struct pair;

struct side {
    int fd;
    struct pair *pair;
    struct side *other;
    char *unsent; // bytes the other side sent that this socket did not take yet
    size_t unsent_length, unsent_sent;
};

struct pair {
    struct side client, upstream;
    bool dead;
    struct pair *next_dead;
};

static int epoll;
static struct pair *dead_list; // freed after the turn: later events of the same turn may still name them

static void end(struct pair *pair) {
    if (pair->dead)
        return;
    pair->dead = true;
    close(pair->client.fd);
    close(pair->upstream.fd);
    pair->next_dead = dead_list;
    dead_list = pair;
}

static void free_dead(void) {
    while (dead_list) {
        struct pair *pair = dead_list;
        dead_list = pair->next_dead;
        free(pair->client.unsent);
        free(pair->upstream.unsent);
        free(pair);
    }
}

static void on_readable(struct side *from) {
    static char buffer[65536];
    struct side *to = from->other;
    ssize_t got = recv(from->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            end(from->pair);
        return;
    }
    ssize_t sent = send(to->fd, buffer, (size_t)got, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
        if (errno != EAGAIN) {
            end(from->pair);
            return;
        }
        sent = 0;
    }
    if (sent == got)
        return;
    // Hold the sender back until the receiver has room again; the receiver is not read meanwhile either, so
    // at most one side of a pair has bytes waiting.
    to->unsent_length = (size_t)(got - sent);
    to->unsent_sent = 0;
    if (!(to->unsent = malloc(to->unsent_length)))
        die("malloc");
    memcpy(to->unsent, buffer + sent, to->unsent_length);
    watch(epoll, EPOLL_CTL_MOD, to->fd, EPOLLOUT, to);
    watch(epoll, EPOLL_CTL_MOD, from->fd, 0, from);
}

static void on_writable(struct side *to) {
    ssize_t sent = send(to->fd, to->unsent + to->unsent_sent, to->unsent_length - to->unsent_sent,
                        MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
        if (errno != EAGAIN)
            end(to->pair);
        return;
    }
    to->unsent_sent += (size_t)sent;
    if (to->unsent_sent < to->unsent_length)
        return;
    free(to->unsent);
    to->unsent = NULL;
    watch(epoll, EPOLL_CTL_MOD, to->fd, EPOLLIN, to);
    watch(epoll, EPOLL_CTL_MOD, to->other->fd, EPOLLIN, to->other);
}

static void accept_pairs(int listener, const int *upstreams, int upstream_count) {
    static int turn;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        struct pair *pair = calloc(1, sizeof *pair);
        if (!pair)
            die("calloc");
        struct side *client = &pair->client, *upstream = &pair->upstream;
        *client = (struct side){.fd = fd, .pair = pair, .other = upstream};
        *upstream = (struct side){.fd = tcp_socket(), .pair = pair, .other = client};
        no_delay(client->fd);
        no_delay(upstream->fd);
        struct sockaddr_in address = loopback(upstreams[turn++ % upstream_count]);
        if (connect(upstream->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) {
            end(pair);
            continue;
        }
        watch(epoll, EPOLL_CTL_ADD, client->fd, EPOLLIN, client);
        watch(epoll, EPOLL_CTL_ADD, upstream->fd, EPOLLIN, upstream);
    }
}

int main(int argc, char **argv) {
    int upstreams[16], upstream_count = 0;
    if (argc < 3 || argc > 18) {
        fprintf(stderr, "usage: limit_epoll PORT UPSTREAM_PORT...   (1 to 16 upstreams)\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    int port = (int)parse_number("PORT", argv[1], 0, 65535);
    for (int i = 2; i < argc; i++)
        upstreams[upstream_count++] = (int)parse_number("UPSTREAM_PORT", argv[i], 1, 65535);
    int listener = listen_on_loopback(&port);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN, NULL);

    static struct epoll_event events[EVENTS_PER_TURN];
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS_PER_TURN, -1);
        for (int i = 0; i < count; i++) {
            struct side *side = events[i].data.ptr;
            if (!side)
                accept_pairs(listener, upstreams, upstream_count);
            else if (side->pair->dead)
                continue;
            else if (side->unsent)
                on_writable(side);
            else if (side->other->unsent)
                end(side->pair); // not watched for input, so this is an error or a hang-up
            else
                on_readable(side);
        }
        free_dead();
    }
}
