/*
 * Sends messages to a milter from N connections at once, one message on each connection, and tells how
 * long that took. It knows next to nothing of the milter protocol: what it sends was written before, in
 * scripts (milter_script.py), so that it costs little beside what it measures.
 *
 *   milter_load SOCKET CONNECTIONS SECONDS MESSAGES FAILURES MARK SCRIPT...
 *
 * It ends after SECONDS or after MESSAGES, whichever is not 0, or after FAILURES. A message counts as marked if
 * a change that the milter asks for at its end contains MARK; it has failed if it was not let through, and
 * counts as refused if that was said to be for good (5xx). Result: one line of JSON on standard output.
 *
 * A script is parts, each a length (4 octets, network order) and octets to send. One answer is awaited
 * after each part, and after the last one as many as there are changes, then the final one.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
    WRITE_OCTETS = 4096,       /* Postfix's stream buffer: a long body comes in such pieces */
    ANSWER_OCTETS = 1 << 20,   /* more than any header field that a milter adds */
    TIMEOUT_SECONDS = 120,
    MAX_MESSAGES = 4 << 20,    /* whose times are remembered */
    THREAD_STACK = 64 << 10
};
static const char CHANGES[] = "+-2behimqlp"; /* SMFIR_*: what precedes the final answer, progress included */
static const unsigned char GOODBYE[] = {0, 0, 0, 1, 'A', 0, 0, 0, 1, 'Q'}; /* SMFIC_ABORT, SMFIC_QUIT */

struct script {
    unsigned char *octets;
    size_t size;
};

static struct sockaddr_un milter = {.sun_family = AF_UNIX};
static struct script *scripts;
static int script_count;
static const char *mark;
static long message_limit, failure_limit;
static double deadline;
static atomic_long begun, ended, marked, failed, refused;
static float milliseconds[MAX_MESSAGES];

static void stop(const char *what) {
    fprintf(stderr, "milter_load: %s: %s\n", what, strerror(errno));
    exit(2);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static struct script read_script(const char *path) {
    FILE *file = fopen(path, "rb");
    struct stat status;
    if (!file || fstat(fileno(file), &status))
        stop(path);
    struct script script = {malloc(status.st_size), status.st_size};
    if (!script.octets || fread(script.octets, 1, script.size, file) != script.size)
        stop(path);
    fclose(file);
    return script;
}

/* The number of the next message, or -1 when it is enough. */
static long next_message(void) {
    if (failed > failure_limit || (deadline && now() >= deadline))
        return -1;
    long number = atomic_fetch_add(&begun, 1);
    return number >= MAX_MESSAGES || (message_limit && number >= message_limit) ? -1 : number;
}

static int open_connection(void) {
    struct timeval timeout = {.tv_sec = TIMEOUT_SECONDS};
    int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection < 0)
        return -1;
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    if (connect(connection, (struct sockaddr *)&milter, sizeof milter)) {
        close(connection);
        return -1;
    }
    return connection;
}

static int send_all(int connection, const unsigned char *octets, size_t size) {
    while (size) {
        ssize_t sent = send(connection, octets, size < WRITE_OCTETS ? size : WRITE_OCTETS, MSG_NOSIGNAL);
        if (sent <= 0)
            return -1;
        octets += sent;
        size -= sent;
    }
    return 0;
}

/* What has been read of the milter's answers. */
struct answers {
    int connection;
    unsigned char *octets;
    size_t from, to;
};

static int need(struct answers *answers, size_t size) {
    if (size > ANSWER_OCTETS)
        return -1;
    if (answers->from + size > ANSWER_OCTETS) {
        memmove(answers->octets, answers->octets + answers->from, answers->to - answers->from);
        answers->to -= answers->from;
        answers->from = 0;
    }
    while (answers->to - answers->from < size) {
        ssize_t got = recv(answers->connection, answers->octets + answers->to, ANSWER_OCTETS - answers->to, 0);
        if (got <= 0)
            return -1;
        answers->to += got;
    }
    return 0;
}

/* The next answer's kind, its octets in *what; -1 if there is none. */
static int read_answer(struct answers *answers, const unsigned char **what, size_t *size) {
    uint32_t length;
    if (need(answers, 4))
        return -1;
    memcpy(&length, answers->octets + answers->from, 4);
    *size = ntohl(length);
    if (*size == 0 || need(answers, 4 + *size))
        return -1;
    *what = answers->octets + answers->from + 4;
    answers->from += 4 + *size;
    return **what;
}

/* MARK may be several texts with '|' between them: one is enough. */
static int has_mark(const unsigned char *what, size_t size) {
    for (const char *text = mark; *text; text += *text == '|') {
        size_t length = strcspn(text, "|");
        if (memmem(what, size, text, length))
            return 1;
        text += length;
    }
    return 0;
}

static int is_refusal(int kind, const unsigned char *what, size_t size) {
    return kind == 'r' || (kind == 'y' && size > 1 && what[1] == '5');
}

/* 0 if the milter let the message go on; *is_marked if it changed it as expected. */
static int send_message(const struct script *script, struct answers *answers, int *is_marked) {
    const unsigned char *part = script->octets, *end = script->octets + script->size, *what;
    size_t answered;
    int kind = 0;
    while (part < end) {
        uint32_t length;
        memcpy(&length, part, 4);
        length = ntohl(length);
        if (send_all(answers->connection, part + 4, length))
            return -1;
        part += 4 + length;
        while ((kind = read_answer(answers, &what, &answered)) >= 0 && strchr(CHANGES, kind))
            *is_marked |= has_mark(what, answered);
        if (kind != 'c' && kind != 'O' && !(kind == 'a' && part == end)) {
            fprintf(stderr, "milter_load: answered '%c'\n", kind < 0 ? '-' : kind);
            refused += is_refusal(kind, what, answered);
            return -1;
        }
    }
    return 0;
}

static void one_message(long number, unsigned char *buffer) {
    double start = now();
    int is_marked = 0, connection = open_connection();
    struct answers answers = {connection, buffer, 0, 0};
    if (connection < 0 || send_message(&scripts[number % script_count], &answers, &is_marked)) {
        failed++;
        usleep(20000); /* a server that died is restarted */
    } else {
        milliseconds[atomic_fetch_add(&ended, 1)] = (now() - start) * 1e3;
        marked += is_marked;
        send_all(connection, GOODBYE, sizeof GOODBYE);
    }
    if (connection >= 0)
        close(connection);
}

static void *work(void *unused) {
    unsigned char *buffer = malloc(ANSWER_OCTETS);
    if (!buffer)
        stop("malloc");
    for (long number; (number = next_message()) >= 0;)
        one_message(number, buffer);
    free(buffer);
    return unused;
}

static int by_size(const void *one, const void *other) {
    float difference = *(const float *)one - *(const float *)other;
    return (difference > 0) - (difference < 0);
}

int main(int count, char **words) {
    if (count < 8 || strlen(words[1]) >= sizeof milter.sun_path)
        return 2;
    strcpy(milter.sun_path, words[1]);
    int connections = atoi(words[2]);
    double seconds = atof(words[3]);
    message_limit = atol(words[4]);
    failure_limit = atol(words[5]);
    mark = words[6];
    script_count = count - 7;
    scripts = calloc(script_count, sizeof *scripts);
    pthread_t *threads = calloc(connections, sizeof *threads);
    if (!scripts || !threads)
        stop("calloc");
    for (int i = 0; i < script_count; i++)
        scripts[i] = read_script(words[7 + i]);
    double start = now();
    deadline = seconds > 0 ? start + seconds : 0;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, THREAD_STACK);
    for (int i = 0; i < connections; i++)
        if ((errno = pthread_create(&threads[i], &small, work, NULL)))
            stop("pthread_create");
    for (int i = 0; i < connections; i++)
        pthread_join(threads[i], NULL);
    double took = now() - start;
    long done = ended;
    qsort(milliseconds, done, sizeof *milliseconds, by_size);
    printf("{\"count\": %ld, \"seconds\": %.6f, \"marked\": %ld, \"failed\": %ld, \"refused\": %ld, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n",
           done, took, (long)marked, (long)failed, (long)refused, done ? milliseconds[done / 2] : 0,
           done ? milliseconds[done * 99 / 100] : 0);
    return 0;
}
