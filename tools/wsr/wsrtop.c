// SPDX-License-Identifier: GPL-2.0
/*
 * The working sets of VMs, live: options, the event loop,
 * and output as a screen, as plain text or as JSON.
 */
#include <errno.h>
#include <getopt.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>

#include "wsrctl/client.h"
#include "wsrtop.h"

#define WSRTOP_VERSION	"0.1"

#define TICK_MS		100
#define DRAW_MS		1000	/* the ages on the screen grow */
#define STOP_MS		1000	/* patience when we leave */
#define MIN_INTERVAL_MS	100

struct wsrtop app = {
	.options.interval_ms = 2000,
	.options.timeout_ms = 10000,
	.control = CLIENT_SOCKET,
};

static const struct source *source;
static unsigned int nr_fds;		/* of the source */
static unsigned int nr_guests;		/* on the screen */
static unsigned int selected;
static char selected_name[GUEST_NAME];	/* empty: whoever is there */
static bool help;

static const char usage[] =
"Usage: wsrtop [OPTION]... [[NAME=]SOCKET...]\n"
"Show how long the memory of VMs has been idle, live.\n"
"\n"
"Without a SOCKET: all VMs of wsrd, the host controller, what it gives them,\n"
"and why.\n"
"\n"
"Each SOCKET is a QMP socket of one guest: the path of a unix socket, or\n"
"HOST:PORT. NAME is what the guest is called here; by default the name that\n"
"QEMU was given (-name), or the file name of the socket. wsrd is not needed.\n"
"QEMU must have been started with these, each guest with its own path:\n"
"  -device virtio-balloon-pci,working-set-reporting=on\n"
"  -qmp unix:/run/vm1.sock,server=on,wait=off\n"
"and the guest's kernel must have CONFIG_VIRTIO_BALLOON_WSR=y.\n"
"\n"
"What to ask for (T is a time: 500ms, 5s, 2m, 1h; without unit: seconds):\n"
"  -b, --bounds T,T,...  idle ages that separate the rows: 1 to 15 times,\n"
"                        increasing. In a guest they stay when wsrtop ends\n"
"  -i, --interval T      ask wsrd or each guest every T (default 2s)\n"
"  -s, --socket PATH     of wsrd (default " CLIENT_SOCKET ")\n"
"Only of guests behind a SOCKET:\n"
"      --refresh T       the guest may send data up to T old without looking\n"
"                        at its memory again. Stays set\n"
"      --report T        the guest may also report by itself, at most every\n"
"                        T; 0: never. Stays set\n"
"  -n, --no-set          change nothing and ask for nothing, only listen\n"
"      --device PATH     QOM path of the balloon device (default: found in\n"
"                        /machine/peripheral and /machine/peripheral-anon)\n"
"wsrtop switches their reports off when it ends (they cost the guest CPU\n"
"time), unless they were on before it came:\n"
"      --stop-on-exit    switch them off in any case\n"
"      --leave-on        leave them on in any case\n"
"\n"
"What to print:\n"
"  -1, --once            one report of each guest as plain text, then exit\n"
"  -c, --count N         exit after N reports of each guest\n"
"  -j, --json            one JSON object per report, or per answer of wsrd,\n"
"                        and line\n"
"  -t, --timeout T       with --once, --count: give up who has sent no report\n"
"                        for T (default 10s)\n"
"Without these: a full screen if standard output is a terminal, else plain\n"
"text, report after report.\n"
"\n"
"  -h, --help            this text\n"
"  -V, --version         the version\n"
"\n"
"Keys on the screen: up, down, tab select a guest; p pause; ? help; q quit.\n"
"\n"
"Exit status: 0; 1 if a guest or wsrd gave no report (with --once or\n"
"--count); 2 if the command line is wrong.\n"
"\n"
"Examples:\n"
"  wsrtop\n"
"  wsrtop --bounds 1s,10s,1m,10m web=/run/vm1.sock db=/run/vm2.sock\n"
"  wsrtop --once --json /run/vm1.sock\n";

int64_t monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

const char *clock_text(char out[TEXT_SHORT], int64_t seconds)
{
	time_t time = seconds;
	struct tm tm;

	if (!localtime_r(&time, &tm) ||
	    !strftime(out, TEXT_SHORT, "%H:%M:%S", &tm))
		strcpy(out, "?");
	return out;
}

/* A reader that went away ends us, but not without tidying up. */
static void flush_output(void)
{
	if (fflush(stdout) || ferror(stdout))
		app.quit = true;
}

void print_text(struct text *text)
{
	if (text->failed)
		fprintf(stderr, "wsrtop: out of memory\n");
	else if (text->len)
		fputs(text->data, stdout);
	text_free(text);
	flush_output();
}

struct text plain_text(void)
{
	return (struct text) {
		.width = app.width,
		.utf8 = app.options.utf8,
	};
}

void put_time(struct json_object *json)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	json_object_object_add(json, "time-ms",
		json_object_new_int64(now.tv_sec * INT64_C(1000) +
				      now.tv_nsec / 1000000));
}

void print_json_line(struct json_object *json)
{
	puts(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN |
					    JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(json);
	flush_output();
}

static void print_heatmaps(void)
{
	struct screen_content content = { 0 };
	struct text text = plain_text();
	unsigned int i;

	source->content(&content, monotonic_ms());
	for (i = 0; i < content.nr_guests; i++)
		view_heatmap(&text, &content.guests[i]);
	print_text(&text);
}

/* Guests come and go: the one that was selected may be elsewhere now. */
static void find_selected(const struct screen_content *content)
{
	unsigned int i;

	nr_guests = content->nr_guests;
	if (selected >= nr_guests ||
	    strcmp(content->guests[selected].name, selected_name)) {
		for (i = 0; i < nr_guests && *selected_name; i++) {
			if (!strcmp(content->guests[i].name, selected_name))
				selected = i;
		}
	}
	if (selected >= nr_guests)
		selected = nr_guests ? nr_guests - 1 : 0;
	if (nr_guests)
		snprintf(selected_name, sizeof(selected_name), "%s",
			 content->guests[selected].name);
}

static void draw(int64_t now_ms)
{
	char interval[TEXT_SHORT], clock[TEXT_SHORT], activity[64];
	struct screen_content content = {
		.paused = app.paused,
		.help = help,
		.activity = activity,
		.clock = clock_text(clock, time(NULL)),
	};

	source->content(&content, now_ms);
	find_selected(&content);
	content.selected = selected;
	if (app.options.listen_only)
		strcpy(activity, "only listening");
	else
		snprintf(activity, sizeof(activity), "a report every %s",
			 text_bound(interval, app.options.interval_ms));
	screen_draw(&content);
}

static void select_guest(unsigned int guest)
{
	selected = guest;
	*selected_name = '\0';
}

static void handle_key(enum screen_key key)
{
	app.redraw = true;
	if (help && key != SCREEN_QUIT) {
		help = false;
		return;
	}
	switch (key) {
	case SCREEN_QUIT:
		app.quit = true;
		break;
	case SCREEN_PAUSE:
		app.paused = !app.paused;
		break;
	case SCREEN_HELP:
		help = true;
		break;
	case SCREEN_UP:
		select_guest(selected ? selected - 1 : 0);
		break;
	case SCREEN_DOWN:
		select_guest(selected + 1 < nr_guests ? selected + 1 :
			     selected);
		break;
	case SCREEN_NEXT:
		select_guest(nr_guests ? (selected + 1) % nr_guests : 0);
		break;
	default:
		break;
	}
}

static unsigned int output_width(void)
{
	const char *columns = getenv("COLUMNS");
	struct winsize size;
	long width;

	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col)
		return size.ws_col;
	width = columns ? strtol(columns, NULL, 10) : 0;
	return width >= 20 && width <= 1000 ? width : 80;
}

static void handle_signal(int fd)
{
	struct signalfd_siginfo info;

	if (read(fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo != SIGWINCH) {
		app.quit = true;
	} else if (app.output == OUTPUT_SCREEN) {
		screen_resize();
		app.width = output_width();
		app.redraw = true;
	}
}

/*
 * Wait for descriptors and serve them.
 * @signal_fd:	a signalfd, or -1
 * @keys:	look at the keyboard, too
 */
static void serve(int signal_fd, bool keys)
{
	struct pollfd fds[nr_fds + 2];
	struct pollfd *signals = &fds[nr_fds], *keyboard = signals + 1;
	enum screen_key key;

	/* poll() ignores negative descriptors. */
	source->poll(fds);
	signals->fd = signal_fd;
	signals->events = POLLIN;
	keyboard->fd = keys ? STDIN_FILENO : -1;
	keyboard->events = POLLIN;
	if (poll(fds, nr_fds + 2, TICK_MS) <= 0)
		return;

	source->io(fds, monotonic_ms());
	if (signals->revents)
		handle_signal(signal_fd);
	if (keyboard->revents & POLLIN) {
		while ((key = screen_get_key()) != SCREEN_NO_KEY)
			handle_key(key);
	}
	if (keyboard->revents & (POLLHUP | POLLERR))
		app.quit = true;
}

static void loop(int signal_fd)
{
	int64_t now_ms, drawn_ms = 0;

	while (!app.quit) {
		now_ms = monotonic_ms();
		if (!app.paused)
			source->tick(now_ms);
		if (app.count && !source->waiting(now_ms))
			app.quit = true;
		if (app.output == OUTPUT_SCREEN &&
		    (app.redraw || (!app.paused &&
				    now_ms - drawn_ms >= DRAW_MS))) {
			draw(now_ms);
			drawn_ms = now_ms;
			app.redraw = false;
		}
		if (!app.quit)
			serve(signal_fd, app.output == OUTPUT_SCREEN);
	}
}

/* Leave the guests as the user wants them, within STOP_MS for all. */
static void stop_guests(void)
{
	int64_t end_ms = monotonic_ms() + STOP_MS;

	source->stop();
	while (source->stopping() && monotonic_ms() < end_ms)
		serve(-1, false);
}

void *allocate(size_t nr, size_t size)
{
	void *memory = calloc(nr, size);

	if (!memory) {
		fprintf(stderr, "wsrtop: out of memory\n");
		exit(EXIT_NO_REPORT);
	}
	return memory;
}

void usage_error(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "wsrtop: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\nTry 'wsrtop --help'.\n");
	exit(EXIT_USAGE);
}

static uint32_t parse_time(const char *option, const char *string,
			   uint32_t least_ms)
{
	uint32_t ms;

	if (text_parse_ms(string, &ms))
		usage_error("--%s %s: not a time such as 500ms, 5s, 2m or 1h",
			    option, string);
	if (ms < least_ms)
		usage_error("--%s %s: at least %u ms", option, string,
			    least_ms);
	return ms;
}

static void parse_bounds(const char *list)
{
	struct guest_options *options = &app.options;
	char item[TEXT_SHORT];
	const char *end;
	uint32_t ms;
	size_t len;

	options->nr_bounds = 0;
	for (;; list = end + 1) {
		end = strchr(list, ',');
		len = end ? (size_t)(end - list) : strlen(list);
		if (len >= sizeof(item))
			usage_error("--bounds: \"%s\" is too long", list);
		memcpy(item, list, len);
		item[len] = '\0';
		ms = parse_time("bounds", item, 1);
		if (options->nr_bounds == GUEST_MAX_BOUNDS)
			usage_error("--bounds: at most %d times",
				    GUEST_MAX_BOUNDS);
		if (options->nr_bounds &&
		    ms <= options->bounds_ms[options->nr_bounds - 1])
			usage_error("--bounds: %s is not above the time before it",
				    item);
		options->bounds_ms[options->nr_bounds++] = ms;
		if (!end)
			break;
	}
}

static uint64_t parse_count(const char *string)
{
	unsigned long long count;
	char *end;

	errno = 0;
	count = strtoull(string, &end, 10);
	if (errno || *end || string[0] < '0' || string[0] > '9' || !count)
		usage_error("--count %s: not a number above 0", string);
	return count;
}

static void parse_options(int argc, char **argv)
{
	enum {
		OPT_REFRESH = 256,
		OPT_REPORT,
		OPT_DEVICE,
		OPT_STOP,
		OPT_LEAVE,
	};
	static const struct option long_options[] = {
		{ "bounds", required_argument, NULL, 'b' },
		{ "interval", required_argument, NULL, 'i' },
		{ "socket", required_argument, NULL, 's' },
		{ "refresh", required_argument, NULL, OPT_REFRESH },
		{ "report", required_argument, NULL, OPT_REPORT },
		{ "no-set", no_argument, NULL, 'n' },
		{ "device", required_argument, NULL, OPT_DEVICE },
		{ "once", no_argument, NULL, '1' },
		{ "count", required_argument, NULL, 'c' },
		{ "json", no_argument, NULL, 'j' },
		{ "timeout", required_argument, NULL, 't' },
		{ "stop-on-exit", no_argument, NULL, OPT_STOP },
		{ "leave-on", no_argument, NULL, OPT_LEAVE },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	struct guest_options *options = &app.options;
	bool once = false, socket = false, guests = false;
	int option;

	while ((option = getopt_long(argc, argv, "b:i:s:n1c:jt:hV",
				     long_options, NULL)) != -1) {
		switch (option) {
		case 'b':
			parse_bounds(optarg);
			break;
		case 'i':
			options->interval_ms = parse_time("interval", optarg,
							  MIN_INTERVAL_MS);
			break;
		case 's':
			socket = true;
			app.control = optarg;
			break;
		case OPT_REFRESH:
			guests = true;
			options->set_refresh = true;
			options->refresh_ms = parse_time("refresh", optarg, 0);
			break;
		case OPT_REPORT:
			guests = true;
			options->set_report = true;
			options->report_ms = parse_time("report", optarg, 0);
			break;
		case 'n':
			guests = true;
			options->listen_only = true;
			break;
		case OPT_DEVICE:
			guests = true;
			if (strlen(optarg) >= GUEST_PATH)
				usage_error("--device: the path is too long");
			options->device = optarg;
			break;
		case '1':
			once = true;
			break;
		case 'c':
			app.count = parse_count(optarg);
			break;
		case 'j':
			app.output = OUTPUT_JSON;
			break;
		case 't':
			options->timeout_ms = parse_time("timeout", optarg, 1);
			break;
		case OPT_STOP:
			guests = true;
			options->on_exit = GUEST_EXIT_STOP;
			break;
		case OPT_LEAVE:
			guests = true;
			options->on_exit = GUEST_EXIT_LEAVE;
			break;
		case 'h':
			fputs(usage, stdout);
			exit(0);
		case 'V':
			puts("wsrtop " WSRTOP_VERSION);
			exit(0);
		default:
			fprintf(stderr, "Try 'wsrtop --help'.\n");
			exit(EXIT_USAGE);
		}
	}
	if (once && app.count > 1)
		usage_error("--once means --count 1");
	if (once)
		app.count = 1;
	if (options->listen_only && (options->nr_bounds ||
				     options->set_refresh ||
				     options->set_report))
		usage_error("--no-set changes nothing: leave --bounds, --refresh and --report out");
	if (optind < argc && socket)
		usage_error("--socket is for all VMs of wsrd: leave it out, or the guests");
	if (optind == argc && guests)
		usage_error("--refresh, --report, --no-set, --device, --stop-on-exit and --leave-on are for guests: give the paths of their QMP sockets");
	source = optind < argc ? &source_qmp : &source_wsrd;
	if (app.output != OUTPUT_JSON &&
	    (once || !isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO)))
		app.output = OUTPUT_PLAIN;
}

int main(int argc, char **argv)
{
	int status = 0, signal_fd;
	sigset_t signals;

	/* Only characters: numbers are to look the same everywhere. */
	setlocale(LC_CTYPE, "");
	app.options.utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8");
	parse_options(argc, argv);
	nr_fds = source->open(argv + optind, argc - optind);
	app.width = output_width();

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGWINCH);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
	if (signal_fd < 0) {
		perror("wsrtop: signalfd");
		return EXIT_NO_REPORT;
	}
	if (app.output == OUTPUT_SCREEN && screen_open(app.options.utf8)) {
		fprintf(stderr, "wsrtop: this terminal (TERM=%s) has no screen to draw on, going on with plain text\n",
			getenv("TERM") ? getenv("TERM") : "");
		app.output = OUTPUT_PLAIN;
	}

	app.start_ms = monotonic_ms();
	loop(signal_fd);
	screen_close();
	if (app.output == OUTPUT_PLAIN)
		print_heatmaps();
	if (!source->tell() && app.count)
		status = EXIT_NO_REPORT;
	stop_guests();
	source->close();
	close(signal_fd);
	return status;
}
