/*
 * Asks a policy server as Postfix's smtpd does, over N connections at once, one request at a time on each,
 * and tells how long the answers took. One thread, so that it takes little from what it measures.
 *
 *   policy_load ADDRESS CONNECTIONS SECONDS LOGINS
 *
 * ADDRESS is a path or a port of 127.0.0.1. Every request is RCPT of a new message by one of LOGINS logins.
 * An answer other than DUNNO, and a connection that is lost, count as failed. Result: one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_CONNECTIONS = 4096,
    MAX_ANSWERS = 16 << 20, /* whose times are remembered */
    EVENTS = 256,
    STALLED_SECONDS = 30
};

/* The attributes of Postfix 3.7 in its order (SMTPD_POLICY_README). */
static const char REQUEST[] =
    "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nclient_address=192.0.2.10\n"
    "client_name=mail.example.net\nclient_port=40000\nreverse_client_name=mail.example.net\n"
    "server_address=127.0.0.1\nserver_port=25\nhelo_name=mail.example.net\nsender=user%ld@example.org\n"
    "recipient=somebody%ld@example.net\nrecipient_count=0\nqueue_id=\ninstance=%lx.%lx.%lx.0\nsize=4096\n"
    "etrn_domain=\nstress=\nsasl_method=PLAIN\nsasl_username=user%ld@example.org\nsasl_sender=\n"
    "ccert_subject=\nccert_issuer=\nccert_fingerprint=\nccert_pubkey_fingerprint=\n"
    "encryption_protocol=TLSv1.3\nencryption_cipher=TLS_AES_256_GCM_SHA384\nencryption_keysize=256\n"
    "policy_context=\n\n";

struct connection {
    int descriptor;
    double asked;
    size_t received;
    char answer[1024];
};

static struct connection connections[MAX_CONNECTIONS];
static float milliseconds[MAX_ANSWERS];
static long requests, answers, failed, logins, run;

static void stop(const char *what) {
    fprintf(stderr, "policy_load: %s: %s\n", what, strerror(errno));
    exit(2);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static int open_connection(const char *address) {
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    struct sockaddr_in host = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int is_path = strchr(address, '/') != NULL, one = 1;
    int descriptor = socket(is_path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) stop("socket");
    if (is_path) {
        if (strlen(address) >= sizeof path.sun_path) stop("a path too long");
        strcpy(path.sun_path, address);
        if (connect(descriptor, (void *)&path, sizeof path)) stop("connect");
        return descriptor;
    }
    host.sin_port = htons((unsigned short)atoi(address));
    if (connect(descriptor, (void *)&host, sizeof host)) stop("connect");
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return descriptor;
}

static void ask(struct connection *each) {
    char request[2048];
    long number = requests++, login = number * 7919 % logins;
    int size = snprintf(request, sizeof request, REQUEST, login, number % 99991, run & 0xffff, run, number, login);
    each->received = 0;
    each->asked = now();
    if (send(each->descriptor, request, (size_t)size, MSG_NOSIGNAL) != size) stop("send");
}

/* Whether the answer is whole. */
static int take(struct connection *each) {
    ssize_t got = recv(each->descriptor, each->answer + each->received, sizeof each->answer - 1 - each->received, 0);
    if (got <= 0) stop("a connection was closed");
    each->received += (size_t)got;
    each->answer[each->received] = 0;
    if (each->received < 2 || strcmp(each->answer + each->received - 2, "\n\n")) return 0;
    if (strcasecmp(each->answer, "action=DUNNO\n\n")) failed++;
    if (answers < MAX_ANSWERS) milliseconds[answers] = (float)((now() - each->asked) * 1000);
    answers++;
    return 1;
}

static int order(const void *left, const void *right) {
    float a = *(const float *)left, b = *(const float *)right;
    return (a > b) - (a < b);
}

int main(int count, char **words) {
    if (count != 5) return fprintf(stderr, "policy_load ADDRESS CONNECTIONS SECONDS LOGINS\n"), 64;
    int wanted = atoi(words[2]), poller = epoll_create1(EPOLL_CLOEXEC), waiting;
    double seconds = atof(words[3]), began, last, ended;
    logins = atol(words[4]);
    if (wanted < 1 || wanted > MAX_CONNECTIONS || logins < 1) return 64;
    run = (long)time(NULL) * 1000 + getpid() % 1000;
    for (int i = 0; i < wanted; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &connections[i]};
        connections[i].descriptor = open_connection(words[1]);
        if (epoll_ctl(poller, EPOLL_CTL_ADD, connections[i].descriptor, &event)) stop("epoll_ctl");
    }
    began = last = now();
    for (waiting = 0; waiting < wanted; waiting++) ask(&connections[waiting]);
    while (waiting) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(poller, events, EVENTS, 1000);
        if (ready > 0) last = now();
        if (now() - last > STALLED_SECONDS) stop("no answer");
        for (int i = 0; i < ready; i++) {
            struct connection *each = events[i].data.ptr;
            if (!take(each)) continue;
            if (now() - began < seconds) ask(each);
            else waiting--;
        }
    }
    ended = now();
    long kept = answers < MAX_ANSWERS ? answers : MAX_ANSWERS;
    qsort(milliseconds, (size_t)kept, sizeof *milliseconds, order);
    printf("{\"count\": %ld, \"seconds\": %.6f, \"failed\": %ld, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n", answers,
           ended - began, failed, (double)milliseconds[kept / 2], (double)milliseconds[kept * 99 / 100]);
    return 0;
}
