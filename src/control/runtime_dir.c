#include "control/runtime_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"

static const char suffix[] = ".sock";

int runtime_dir(char *path, size_t size, bool create, struct error *err)
{
    const char *base = getenv("XDG_RUNTIME_DIR");
    struct stat st;
    /* After su or sudo the variable may name another user's folder, or one that is gone. */
    bool ours = base && base[0] == '/' && !stat(base, &st) && S_ISDIR(st.st_mode) && st.st_uid == getuid();

    int len = ours ? snprintf(path, size, "%s/plastron", base)
                   : snprintf(path, size, "/tmp/plastron-%u", (unsigned)getuid());
    if (len < 0 || (size_t)len >= size)
        return error_set(err, "XDG_RUNTIME_DIR is too long for the path of a socket");
    if (create && mkdir(path, 0700) && errno != EEXIST)
        return error_set_errno(err, errno, "cannot make %s for the control socket", path);
    if (lstat(path, &st))
        return error_set_errno(err, errno, "%s", path);
    if (!S_ISDIR(st.st_mode) || st.st_uid != getuid() || st.st_mode & 077)
        return error_set(err, "%s is not a folder of this user alone: remove it", path);
    return 0;
}

/* Make `address` the socket of `name` in the folder. */
static int socket_address(struct sockaddr_un *address, const char *dir, const char *name, struct error *err)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    int len = snprintf(address->sun_path, sizeof(address->sun_path), "%s/%s%s", dir, name, suffix);
    if (len < 0 || (size_t)len >= sizeof(address->sun_path))
        return error_set(err, "the name %s is too long for a socket in %s", name, dir);
    return 0;
}

/* Connect, or -1 with errno. */
static int try_connect(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    if (!connect(fd, (const struct sockaddr *)address, sizeof(*address)))
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

/*
 * Between bind and listen a socket refuses connections and looks like one that a dead process left. So whoever claims or
 * cleans holds a lock on the folder. Returns a descriptor to close, or -1.
 */
static int lock_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    while (fd >= 0 && flock(fd, LOCK_EX))
        if (errno != EINTR) {
            close(fd);
            return -1;
        }
    return fd;
}

/* Remove the socket if nobody listens on it. Folder locked. */
static bool remove_stale(const struct sockaddr_un *address)
{
    int fd = try_connect(address);

    if (fd >= 0)
        close(fd);
    else if (errno == ECONNREFUSED)
        return !unlink(address->sun_path);
    return false;
}

int runtime_dir_claim(const char *name, char path[sizeof(((struct sockaddr_un *)0)->sun_path)],
                      struct error *err)
{
    struct sockaddr_un address;
    char dir[sizeof(address.sun_path)];

    if (runtime_dir(dir, sizeof(dir), true, err) || socket_address(&address, dir, name, err))
        return -1;
    int lock = lock_dir(dir);
    if (lock < 0)
        return error_set_errno(err, errno, "cannot lock %s", dir);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool bound = fd >= 0 && !bind(fd, (struct sockaddr *)&address, sizeof(address));
    if (fd >= 0 && !bound && errno == EADDRINUSE) {
        if (remove_stale(&address)) {
            bound = !bind(fd, (struct sockaddr *)&address, sizeof(address));
        } else {
            error_set(
                err,
                "a machine named %s runs already: give another --name, or end it with `plastron stop %s`",
                name, name);
            goto fail;
        }
    }
    if (!bound || chmod(address.sun_path, 0600) || listen(fd, 16)) {
        error_set_errno(err, errno, "cannot make the control socket %s", address.sun_path);
        if (bound)
            unlink(address.sun_path);
        goto fail;
    }
    close(lock);
    memcpy(path, address.sun_path, sizeof(address.sun_path));
    return fd;
fail:
    if (fd >= 0)
        close(fd);
    close(lock);
    return -1;
}

void runtime_dir_release(int fd, const char *path)
{
    unlink(
        path); /* first: a socket that is closed and there is stale, and a new one may replace it at once */
    close(fd);
}

int runtime_dir_list(char ***names, struct error *err)
{
    struct sockaddr_un address;
    char dir[sizeof(address.sun_path)];
    struct dirent **entries;
    int count = 0;

    if (runtime_dir(dir, sizeof(dir), true, err))
        return -1;
    int lock = lock_dir(dir);
    int n = lock < 0 ? -1 : scandir(dir, &entries, NULL, alphasort);
    if (n < 0) {
        error_set_errno(err, errno, "cannot read %s", dir);
        if (lock >= 0)
            close(lock);
        return -1;
    }
    *names = calloc((size_t)n + 1, sizeof(**names));
    for (int i = 0; i < n; i++) {
        char *name = entries[i]->d_name;
        size_t len = strlen(name);
        if (*names && len > sizeof(suffix) - 1 && !strcmp(name + len - (sizeof(suffix) - 1), suffix)) {
            name[len - (sizeof(suffix) - 1)] = 0;
            if (!socket_address(&address, dir, name, NULL) && !remove_stale(&address))
                (*names)[count++] = strdup(name);
        }
        free(entries[i]);
    }
    free(entries);
    close(lock);
    return *names ? count : error_set(err, "out of memory");
}

int runtime_dir_connect(const char *name, struct error *err)
{
    struct sockaddr_un address;
    char dir[sizeof(address.sun_path)];
    struct text_nearest nearest = {0};
    char **names = NULL;

    if (runtime_dir(dir, sizeof(dir), true, err) || socket_address(&address, dir, name, err))
        return -1;
    int fd = strchr(name, '/') ? -1 : try_connect(&address);
    if (fd >= 0)
        return fd;
    int count = runtime_dir_list(&names, NULL);
    for (int i = 0; i < count; i++)
        text_nearest_offer(&nearest, name, names[i]);
    if (nearest.best)
        error_set(err, "no machine named %s runs; is %s meant?", name, nearest.best);
    else
        error_set(err, "no machine named %s runs: `plastron ls` lists those that do", name);
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
    return -1;
}
