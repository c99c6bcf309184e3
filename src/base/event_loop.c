#include "base/event_loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 32 };

struct event_watch {
    struct event_loop *loop;
    int fd;
    void (*ready)(void *opaque, unsigned events);
    void *opaque;
    bool removed; /* waits in the loop's graveyard: the batch under way may still name it */
    struct event_watch *next;
};

struct event_timer {
    struct event_watch *watch;
    int fd;
    void (*fire)(void *opaque);
    void *opaque;
    struct event_loop *loop;
    struct event_timer *next;
};

struct posted_call {
    struct posted_call *next;
    void (*fn)(void *opaque);
    void *opaque;
};

struct event_loop {
    int epoll_fd, wake_fd;
    struct event_watch *wake_watch;
    struct event_watch *watches, *removed;
    struct event_timer *timers;
    bool dispatching;
    bool stop;            /* atomic */
    pthread_mutex_t lock; /* guards the posted calls */
    struct posted_call *posted, **posted_end;
};

u64 event_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

static void wake(struct event_loop *loop)
{
    u64 one = 1;

    /* EAGAIN means that the counter is full: the loop will wake anyway. */
    while (write(loop->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

/* Take *link out of the posted calls; lock held. */
static void unlink_call(struct event_loop *loop, struct posted_call **link)
{
    struct posted_call *call = *link;

    *link = call->next;
    if (!*link)
        loop->posted_end = link;
}

static void run_posted(void *opaque, unsigned events)
{
    struct event_loop *loop = opaque;
    struct posted_call *call, **last;
    u64 count;

    while (read(loop->wake_fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
    /* Those that are posted meanwhile wake the loop again: timers and descriptors get their turn in between. */
    pthread_mutex_lock(&loop->lock);
    last = loop->posted_end;
    while ((call = loop->posted)) {
        bool done = &call->next == last;

        unlink_call(loop, &loop->posted);
        pthread_mutex_unlock(&loop->lock);
        call->fn(call->opaque);
        free(call);
        if (done)
            return;
        pthread_mutex_lock(&loop->lock);
    }
    pthread_mutex_unlock(&loop->lock);
}

void event_loop_cancel(struct event_loop *loop, void (*fn)(void *opaque), void *opaque)
{
    struct posted_call **link, *call;

    pthread_mutex_lock(&loop->lock);
    for (link = &loop->posted; (call = *link);) {
        if (call->fn == fn && call->opaque == opaque) {
            unlink_call(loop, link);
            free(call);
        } else {
            link = &call->next;
        }
    }
    pthread_mutex_unlock(&loop->lock);
}

struct event_loop *event_loop_new(struct error *err)
{
    struct event_loop *loop = calloc(1, sizeof(*loop));

    if (!loop) {
        error_set(err, "out of memory for an event loop");
        return NULL;
    }
    pthread_mutex_init(&loop->lock, NULL);
    loop->posted_end = &loop->posted;
    loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->wake_fd < 0 || loop->epoll_fd < 0) {
        error_set_errno(err, errno, "cannot make an event loop");
        event_loop_free(loop);
        return NULL;
    }
    loop->wake_watch = event_loop_watch(loop, loop->wake_fd, EVENT_READ, run_posted, loop, err);
    if (!loop->wake_watch) {
        event_loop_free(loop);
        return NULL;
    }
    return loop;
}

static void bury(struct event_loop *loop)
{
    struct event_watch *next;

    for (struct event_watch *w = loop->removed; w; w = next) {
        next = w->next;
        free(w);
    }
    loop->removed = NULL;
}

void event_loop_free(struct event_loop *loop)
{
    struct posted_call *next;

    if (!loop)
        return;
    while (loop->timers)
        event_timer_free(loop->timers);
    while (loop->watches)
        event_watch_remove(loop->watches);
    bury(loop);
    for (struct posted_call *call = loop->posted; call; call = next) {
        next = call->next;
        free(call);
    }
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    if (loop->epoll_fd >= 0)
        close(loop->epoll_fd);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

unsigned event_loop_run_once(struct event_loop *loop, int timeout_ms)
{
    struct epoll_event ready[BATCH];
    int n = epoll_wait(loop->epoll_fd, ready, BATCH, timeout_ms);
    unsigned ran = 0;

    if (n <= 0)
        return 0; /* EINTR: the caller's loop comes back */
    loop->dispatching = true;
    for (int i = 0; i < n; i++) {
        struct event_watch *watch = ready[i].data.ptr;
        unsigned events = 0;

        if (watch->removed)
            continue;
        events |= ready[i].events & EPOLLIN ? EVENT_READ : 0;
        events |= ready[i].events & EPOLLOUT ? EVENT_WRITE : 0;
        events |= ready[i].events & (EPOLLERR | EPOLLHUP) ? EVENT_HANGUP : 0;
        watch->ready(watch->opaque, events);
        ran++;
    }
    loop->dispatching = false;
    bury(loop);
    return ran;
}

void event_loop_run(struct event_loop *loop)
{
    while (!__atomic_exchange_n(&loop->stop, false, __ATOMIC_ACQ_REL))
        event_loop_run_once(loop, -1);
}

void event_loop_stop(struct event_loop *loop)
{
    __atomic_store_n(&loop->stop, true, __ATOMIC_RELEASE);
    wake(loop);
}

static u32 epoll_events(unsigned events)
{
    return (events & EVENT_READ ? EPOLLIN : 0u) | (events & EVENT_WRITE ? EPOLLOUT : 0u);
}

struct event_watch *event_loop_watch(struct event_loop *loop, int fd, unsigned events,
                                     void (*ready)(void *opaque, unsigned events), void *opaque,
                                     struct error *err)
{
    struct event_watch *watch = calloc(1, sizeof(*watch));
    struct epoll_event epoll_event = {.events = epoll_events(events), .data.ptr = watch};

    if (!watch) {
        error_set(err, "out of memory for a watched file descriptor");
        return NULL;
    }
    *watch = (struct event_watch){.loop = loop, .fd = fd, .ready = ready, .opaque = opaque};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &epoll_event) < 0) {
        int saved = errno;

        error_set_errno(err, saved, "cannot watch file descriptor %d", fd);
        free(watch);
        errno = saved;
        return NULL;
    }
    watch->next = loop->watches;
    loop->watches = watch;
    return watch;
}

void event_watch_set(struct event_watch *watch, unsigned events)
{
    struct epoll_event epoll_event = {.events = epoll_events(events), .data.ptr = watch};

    epoll_ctl(watch->loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &epoll_event);
}

void event_watch_remove(struct event_watch *watch)
{
    struct event_loop *loop;
    struct event_watch **link;

    if (!watch)
        return;
    loop = watch->loop;
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    for (link = &loop->watches; *link != watch; link = &(*link)->next)
        ;
    *link = watch->next;
    watch->removed = true;
    watch->next = loop->removed;
    loop->removed = watch;
    if (!loop->dispatching)
        bury(loop);
}

static void timer_ready(void *opaque, unsigned events)
{
    struct event_timer *timer = opaque;
    u64 expirations;

    if (read(timer->fd, &expirations, sizeof(expirations)) == sizeof(expirations))
        timer->fire(timer->opaque); /* EAGAIN: it was armed again meanwhile */
}

struct event_timer *event_timer_new(struct event_loop *loop, void (*fire)(void *opaque), void *opaque,
                                    struct error *err)
{
    struct event_timer *timer = calloc(1, sizeof(*timer));

    if (!timer) {
        error_set(err, "out of memory for a timer");
        return NULL;
    }
    *timer = (struct event_timer){.loop = loop, .fire = fire, .opaque = opaque};
    timer->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (timer->fd < 0) {
        error_set_errno(err, errno, "cannot make a timer");
        free(timer);
        return NULL;
    }
    timer->watch = event_loop_watch(loop, timer->fd, EVENT_READ, timer_ready, timer, err);
    if (!timer->watch) {
        close(timer->fd);
        free(timer);
        return NULL;
    }
    timer->next = loop->timers;
    loop->timers = timer;
    return timer;
}

void event_timer_arm(struct event_timer *timer, u64 deadline_ns)
{
    struct itimerspec spec = {0};

    if (deadline_ns != UINT64_MAX) {
        spec.it_value.tv_sec = (time_t)(deadline_ns / 1000000000);
        spec.it_value.tv_nsec = (long)(deadline_ns % 1000000000);
        if (deadline_ns == 0)
            spec.it_value.tv_nsec = 1; /* all zero would disarm */
    }
    timerfd_settime(timer->fd, TFD_TIMER_ABSTIME, &spec, NULL);
}

void event_timer_free(struct event_timer *timer)
{
    struct event_timer **link;

    if (!timer)
        return;
    for (link = &timer->loop->timers; *link != timer; link = &(*link)->next)
        ;
    *link = timer->next;
    event_watch_remove(timer->watch);
    close(timer->fd);
    free(timer);
}

int event_loop_post(struct event_loop *loop, void (*fn)(void *opaque), void *opaque, struct error *err)
{
    struct posted_call *call = malloc(sizeof(*call));

    if (!call)
        return error_set(err, "out of memory for a posted call");
    *call = (struct posted_call){.fn = fn, .opaque = opaque};
    pthread_mutex_lock(&loop->lock);
    *loop->posted_end = call;
    loop->posted_end = &call->next;
    pthread_mutex_unlock(&loop->lock);
    wake(loop);
    return 0;
}
