// SPDX-License-Identifier: GPL-2.0
/*
 * The process that writes to control groups, and how wsrd asks it to.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config.h"
#include "idle.h"
#include "log.h"
#include "privileged.h"

#define MAX_JOBS	64
/* The rest is for memory.high: who gives memory must not wait. */
#define MAX_RECLAIMS	16
#define JOB_S		60
#define MAX_PENDING	4096
#define HOST_PRESSURE	"/proc/pressure/memory"

struct request {
	uint32_t id;
	uint32_t op;
	uint32_t nr;
	uint64_t numbers[PRIVILEGED_NUMBERS];
	char path[PRIVILEGED_PATH];	/* only as much as is needed is sent */
};

struct answer {
	uint32_t id;
	int32_t error;
};

static const char * const file_names[PRIVILEGED_NR_OPS] = {
	[PRIVILEGED_HIGH] = "memory.high",
	[PRIVILEGED_RECLAIM] = "memory.reclaim",
	[PRIVILEGED_INTERVALS] = "memory.working_set.intervals_ms",
	[PRIVILEGED_PSI] = "memory.pressure",
};

int privileged_open(int directory, const char *path, int flags)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
			   RESOLVE_NO_MAGICLINKS,
	};

	return syscall(SYS_openat2, directory, *path ? path : ".", &how,
		       sizeof(how));
}

/* ---- In the privileged process ---- */

/* A child that writes, and what is to be done when it has ended */
struct job {
	pid_t pid;		/* 0: free */
	bool cancelled;
	struct request request;
	bool has_next;
	struct request next;
};

static struct {
	int socket;
	int root;
	const char *lru_gen;
	const char *idle_root;
	struct job jobs[MAX_JOBS];
} process;

static void answer(uint32_t id, int error, int fd)
{
	struct answer message = { .id = id, .error = error };
	struct iovec data = { .iov_base = &message, .iov_len = sizeof(message) };
	union {
		char buffer[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct msghdr header = { .msg_iov = &data, .msg_iovlen = 1 };

	if (fd >= 0) {
		struct cmsghdr *rights;

		header.msg_control = control.buffer;
		header.msg_controllen = sizeof(control.buffer);
		rights = CMSG_FIRSTHDR(&header);
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(rights), &fd, sizeof(int));
	}
	/* If wsrd is gone, so are we in a moment. */
	sendmsg(process.socket, &header, MSG_NOSIGNAL);
}

/* Return: a descriptor of the file that the request is about, or -1 */
static int open_file(const struct request *request, int flags)
{
	int directory, fd, error;

	if (request->op == PRIVILEGED_AGE || request->op == PRIVILEGED_LRU_GEN)
		return open(process.lru_gen, flags | O_CLOEXEC | O_NOFOLLOW);
	if (request->op == PRIVILEGED_PSI && !*request->path)
		return open(HOST_PRESSURE, flags | O_CLOEXEC);
	directory = privileged_open(process.root, request->path,
				    O_PATH | O_DIRECTORY);
	if (directory < 0)
		return -1;
	fd = privileged_open(directory, file_names[request->op], flags);
	error = errno;
	close(directory);
	errno = error;
	return fd;
}

static void make_text(const struct request *request, char *text, size_t size)
{
	const uint64_t *numbers = request->numbers;
	size_t len = 0;

	switch (request->op) {
	case PRIVILEGED_HIGH:
		if (numbers[0] == UINT64_MAX) {
			snprintf(text, size, "max\n");
			break;
		}
		/* fall through */
	case PRIVILEGED_RECLAIM:
		snprintf(text, size, "%" PRIu64 "\n", numbers[0]);
		break;
	case PRIVILEGED_INTERVALS:
		for (unsigned int i = 0; i < request->nr; i++)
			len += snprintf(text + len, size - len,
					"%s%" PRIu64, i ? "," : "", numbers[i]);
		snprintf(text + len, size - len, "\n");
		break;
	case PRIVILEGED_AGE:
		snprintf(text, size, "+ %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
			 numbers[0], numbers[1], numbers[2]);
		break;
	case PRIVILEGED_PSI:
		snprintf(text, size, "some %" PRIu64 " %" PRIu64, numbers[0],
			 numbers[1]);
		break;
	}
}

/* The one thing that a child does */
static void __attribute__((noreturn)) write_file(const struct request *request)
{
	/* Fits PRIVILEGED_NUMBERS numbers of 20 digits. */
	char text[512];
	int fd, error = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(JOB_S);
	make_text(request, text, sizeof(text));
	fd = open_file(request, O_WRONLY);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		error = errno;
	answer(request->id, error, -1);
	_exit(0);
}

static void start_job(struct job *job, const struct request *request)
{
	pid_t pid = fork();

	if (!pid)
		write_file(request);
	if (pid < 0) {
		answer(request->id, errno, -1);
		job->pid = 0;
		return;
	}
	job->pid = pid;
	job->cancelled = false;
	job->request = *request;
	job->has_next = false;
}

static void cancel_job(struct job *job)
{
	job->cancelled = true;
	kill(job->pid, SIGKILL);
}

/* Return: the job that @request must wait for, or NULL */
static struct job *cancel_others(const struct request *request)
{
	struct job *same = NULL;

	for (size_t i = 0; i < MAX_JOBS; i++) {
		struct job *job = &process.jobs[i];

		if (!job->pid || strcmp(job->request.path, request->path) ||
		    request->op == PRIVILEGED_AGE)
			continue;
		if (job->request.op == request->op) {
			cancel_job(job);
			same = job;
		} else if (job->request.op == PRIVILEGED_RECLAIM &&
			   request->op == PRIVILEGED_HIGH) {
			cancel_job(job);
		}
	}
	return same;
}

static void add_job(const struct request *request)
{
	struct job *same = cancel_others(request), *free_job = NULL;
	size_t reclaims = 0;

	if (same) {
		if (same->has_next)
			answer(same->next.id, ECANCELED, -1);
		same->next = *request;
		same->has_next = true;
		return;
	}
	for (size_t i = 0; i < MAX_JOBS; i++) {
		struct job *job = &process.jobs[i];

		if (!job->pid)
			free_job = job;
		else
			reclaims += job->request.op == PRIVILEGED_RECLAIM;
	}
	if (!free_job || (request->op == PRIVILEGED_RECLAIM &&
			  reclaims >= MAX_RECLAIMS)) {
		answer(request->id, EBUSY, -1);
		return;
	}
	start_job(free_job, request);
}

static void collect_jobs(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (size_t i = 0; i < MAX_JOBS; i++) {
			struct job *job = &process.jobs[i];

			if (job->pid != pid)
				continue;
			/* Else it has answered itself. */
			if (WIFSIGNALED(status))
				answer(job->request.id, job->cancelled ?
				       ECANCELED : ETIMEDOUT, -1);
			job->pid = 0;
			if (job->has_next) {
				struct request next = job->next;

				start_job(job, &next);
			}
		}
	}
}

/* What is passed on must be opened here; neither blocks. */
static void pass_file(const struct request *request)
{
	bool psi = request->op == PRIVILEGED_PSI;
	int fd = open_file(request, psi ? O_RDWR | O_NONBLOCK : O_RDONLY);
	char text[64];

	if (fd >= 0 && psi) {
		make_text(request, text, sizeof(text));
		if (write(fd, text, strlen(text) + 1) < 0) {
			answer(request->id, errno, -1);
			close(fd);
			return;
		}
	}
	answer(request->id, fd < 0 ? errno : 0, fd);
	if (fd >= 0)
		close(fd);
}

static void __attribute__((noreturn))
sample(const struct idle_kernel *kernel, int socket, pid_t parent)
{
	sigset_t signals;

	prctl(PR_SET_NAME, "wsrd-idle");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	close(process.socket);
	sigemptyset(&signals);
	sigprocmask(SIG_SETMASK, &signals, NULL);
	idle_serve(kernel, socket);
}

/* All VMs share one child, which talks with wsrd itself. */
static void start_sampling(const struct request *request)
{
	struct idle_kernel kernel;
	pid_t pid, parent = getpid();
	int error = idle_open(&kernel, process.idle_root), sockets[2];

	if (error) {
		answer(request->id, error, -1);
		return;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets)) {
		answer(request->id, errno, -1);
		idle_close(&kernel);
		return;
	}
	pid = fork();
	if (!pid) {
		close(sockets[0]);
		sample(&kernel, sockets[1], parent);
	}
	answer(request->id, pid < 0 ? errno : 0, pid < 0 ? -1 : sockets[0]);
	close(sockets[0]);
	close(sockets[1]);
	idle_close(&kernel);
}

static bool is_valid(const struct request *request, size_t len)
{
	static const unsigned int least[PRIVILEGED_NR_OPS] = {
		[PRIVILEGED_HIGH] = 1, [PRIVILEGED_RECLAIM] = 1,
		[PRIVILEGED_AGE] = 3, [PRIVILEGED_PSI] = 2,
	};
	bool lru_gen = request->op == PRIVILEGED_AGE ||
		       request->op == PRIVILEGED_LRU_GEN;
	bool idle = request->op == PRIVILEGED_IDLE;
	bool has_group = !lru_gen && !idle;

	return len > offsetof(struct request, path) &&
	       !((const char *)request)[len - 1] &&
	       request->op < PRIVILEGED_NR_OPS &&
	       request->nr >= least[request->op] &&
	       request->nr <= PRIVILEGED_NUMBERS &&
	       (!lru_gen || process.lru_gen) &&
	       (!idle || process.idle_root) &&
	       (*request->path || !has_group || request->op == PRIVILEGED_PSI);
}

/* Return: false when wsrd is gone */
static bool take_request(void)
{
	struct request request = { 0 };
	ssize_t len;

	len = recv(process.socket, &request, sizeof(request), 0);
	if (len <= 0)
		return len < 0 && (errno == EINTR || errno == EAGAIN);
	if (!is_valid(&request, len))
		answer(request.id, EINVAL, -1);
	else if (request.op == PRIVILEGED_PSI ||
		 request.op == PRIVILEGED_LRU_GEN)
		pass_file(&request);
	else if (request.op == PRIVILEGED_IDLE)
		start_sampling(&request);
	else
		add_job(&request);
	return true;
}

static void __attribute__((noreturn)) run(pid_t parent)
{
	struct pollfd wait[2] = {
		{ .fd = process.socket, .events = POLLIN },
		{ .events = POLLIN },
	};
	struct signalfd_siginfo info;
	sigset_t signals;

	prctl(PR_SET_NAME, "wsrd-privileged");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	/*
	 * Signals to the whole service or terminal are for wsrd, which still
	 * needs this process to give memory back.
	 */
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	wait[1].fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (wait[1].fd < 0)
		_exit(1);
	for (;;) {
		if (poll(wait, 2, -1) < 0)
			continue;
		if (wait[1].revents) {
			while (read(wait[1].fd, &info, sizeof(info)) > 0)
				;
			collect_jobs();
		}
		if (wait[0].revents && !take_request())
			_exit(0);
	}
}

/* ---- In wsrd ---- */

struct pending {
	uint32_t id;
	privileged_done done;
	void *arg;
};

struct privileged {
	int socket;
	int root;
	pid_t pid;
	uint32_t last_id;
	sd_event_source *io;
	struct pending *pending;
	size_t nr_pending;
	size_t size;
};

struct privileged *privileged_start(const char *root, const char *lru_gen,
				    const char *idle_root, char *error)
{
	struct privileged *privileged = calloc(1, sizeof(*privileged));
	pid_t parent = getpid();
	int sockets[2];

	if (!privileged) {
		snprintf(error, CONFIG_ERROR, "out of memory");
		return NULL;
	}
	/* A host without control groups has none to write to. */
	privileged->root = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets)) {
		snprintf(error, CONFIG_ERROR, "no sockets: %s",
			 strerror(errno));
		free(privileged);
		return NULL;
	}
	privileged->pid = fork();
	if (!privileged->pid) {
		close(sockets[0]);
		process.socket = sockets[1];
		process.root = privileged->root;
		process.lru_gen = lru_gen;
		process.idle_root = idle_root;
		run(parent);
	}
	close(sockets[1]);
	privileged->socket = sockets[0];
	if (privileged->pid < 0) {
		snprintf(error, CONFIG_ERROR, "no process: %s",
			 strerror(errno));
		privileged_stop(privileged);
		return NULL;
	}
	return privileged;
}

int privileged_root(const struct privileged *privileged)
{
	return privileged->root;
}

/* The descriptor that came along, or -1 */
static int take_fd(struct msghdr *header)
{
	struct cmsghdr *rights = CMSG_FIRSTHDR(header);
	int fd = -1;

	if (rights && rights->cmsg_level == SOL_SOCKET &&
	    rights->cmsg_type == SCM_RIGHTS &&
	    rights->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&fd, CMSG_DATA(rights), sizeof(int));
	return fd;
}

static void finish(struct privileged *privileged, const struct answer *message,
		   int fd)
{
	struct pending pending;
	size_t i = 0;

	while (i < privileged->nr_pending &&
	       privileged->pending[i].id != message->id)
		i++;
	if (i < privileged->nr_pending) {
		pending = privileged->pending[i];
		privileged->pending[i] =
			privileged->pending[--privileged->nr_pending];
		if (pending.done) {
			pending.done(pending.arg, message->error, fd);
			return;
		}
	}
	if (fd >= 0)
		close(fd);
}

/* Return: 1, 0: nothing is there, -1: the process is gone */
static int take_answer(struct privileged *privileged)
{
	struct answer message;
	struct iovec data = { .iov_base = &message, .iov_len = sizeof(message) };
	union {
		char buffer[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr header = {
		.msg_iov = &data, .msg_iovlen = 1,
		.msg_control = control.buffer,
		.msg_controllen = sizeof(control.buffer),
	};
	ssize_t len = recvmsg(privileged->socket, &header,
			      MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (len < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (len != sizeof(message))
		return -1;
	finish(privileged, &message, take_fd(&header));
	return 1;
}

static int on_answer(sd_event_source *source, int fd, uint32_t revents,
		     void *arg)
{
	struct privileged *privileged = arg;
	int taken;

	(void)fd;
	(void)revents;
	do {
		taken = take_answer(privileged);
	} while (taken > 0);
	if (taken < 0) {
		log_message(LOG_ERR, "the privileged process has ended");
		sd_event_source_set_enabled(source, SD_EVENT_OFF);
		sd_event_exit(sd_event_source_get_event(source), 1);
	}
	return 0;
}

int privileged_attach(struct privileged *privileged, sd_event *event)
{
	return sd_event_add_io(event, &privileged->io, privileged->socket,
			       EPOLLIN, on_answer, privileged) < 0 ? -1 : 0;
}

static int remember(struct privileged *privileged, privileged_done done,
		    void *arg)
{
	struct pending *pending = privileged->pending;
	size_t size = privileged->size ? 2 * privileged->size : 16;

	if (privileged->nr_pending == MAX_PENDING)
		return -1;
	if (privileged->nr_pending == privileged->size) {
		pending = realloc(pending, size * sizeof(*pending));
		if (!pending)
			return -1;
		privileged->pending = pending;
		privileged->size = size;
	}
	pending[privileged->nr_pending++] = (struct pending) {
		.id = ++privileged->last_id, .done = done, .arg = arg,
	};
	return 0;
}

int privileged_send(struct privileged *privileged, enum privileged_op op,
		    const char *path, const uint64_t *numbers, unsigned int nr,
		    privileged_done done, void *arg)
{
	struct request request = { .op = op, .nr = nr };
	size_t len = strlen(path) + 1;

	if (nr > PRIVILEGED_NUMBERS || len > sizeof(request.path) ||
	    remember(privileged, done, arg))
		return -1;
	request.id = privileged->last_id;
	if (nr)
		memcpy(request.numbers, numbers, nr * sizeof(*numbers));
	memcpy(request.path, path, len);
	if (send(privileged->socket, &request,
		 offsetof(struct request, path) + len,
		 MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return 0;
	privileged->nr_pending--;
	return -1;
}

void privileged_forget(struct privileged *privileged, const void *arg)
{
	for (size_t i = 0; i < privileged->nr_pending; i++) {
		if (privileged->pending[i].arg == arg)
			privileged->pending[i].done = NULL;
	}
}

void privileged_stop(struct privileged *privileged)
{
	if (!privileged)
		return;
	sd_event_source_disable_unref(privileged->io);
	close(privileged->socket);
	if (privileged->pid > 0)
		waitpid(privileged->pid, NULL, 0);
	if (privileged->root >= 0)
		close(privileged->root);
	free(privileged->pending);
	free(privileged);
}
