// SPDX-License-Identifier: GPL-2.0
/*
 * Which domains run, and their events.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>

#include "../wsrd/log.h"
#include "protocol.h"
#include "watch.h"

#define KEEPALIVE_S	5
#define KEEPALIVE_COUNT	5	/* unanswered ones, then it is lost */
#define RETRY_S		2

static struct {
	const char *uri;
	struct mailbox *mailbox;
	bool told_down;			/* once, not at each attempt */

	pthread_mutex_t lock;		/* of what follows */
	pthread_cond_t changed;
	bool dirty;			/* the list of domains is old */
	bool lost;
} watch = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.changed = PTHREAD_COND_INITIALIZER,
};

/* libvirt would write to stderr. */
static void ignore_error(void *arg, virErrorPtr error)
{
	(void)arg;
	(void)error;
}

static void signal_change(bool lost)
{
	pthread_mutex_lock(&watch.lock);
	watch.dirty = true;
	watch.lost |= lost;
	pthread_cond_signal(&watch.changed);
	pthread_mutex_unlock(&watch.lock);
}

static void on_close(virConnectPtr connection, int reason, void *arg)
{
	(void)connection;
	(void)reason;
	(void)arg;
	signal_change(true);
}

static int on_lifecycle(virConnectPtr connection, virDomainPtr domain,
			int event, int detail, void *arg)
{
	(void)connection;
	(void)domain;
	(void)event;
	(void)detail;
	(void)arg;
	signal_change(false);
	return 0;
}

static void on_event(virConnectPtr connection, virDomainPtr domain,
		     const char *event, long long seconds, unsigned int micros,
		     const char *details, void *arg)
{
	struct note *note = note_new(NOTE_EVENT);

	(void)connection;
	(void)arg;
	if (!note)
		return;
	note->text = line_event(event, seconds, micros, details);
	if (!note->text || virDomainGetUUIDString(domain, note->uuid)) {
		note_free(note);
		return;
	}
	mailbox_post(watch.mailbox, note);
}

virConnectPtr watch_connect(const char *uri)
{
	virConnectPtr connection = virConnectOpen(uri);

	if (connection &&
	    virConnectSetKeepAlive(connection, KEEPALIVE_S,
				   KEEPALIVE_COUNT) < 0) {
		virConnectClose(connection);
		return NULL;
	}
	return connection;
}

static void add_domain(struct note *note, virDomainPtr domain)
{
	struct running *running = &note->domains[note->nr_domains];
	const char *name = virDomainGetName(domain);
	unsigned int id = virDomainGetID(domain);

	/* It has just stopped if there is no id. */
	if (!name || id == (unsigned int)-1 ||
	    virDomainGetUUIDString(domain, running->uuid))
		return;
	running->id = id;
	running->name = strdup(name);
	if (running->name)
		note->nr_domains++;
}

/* Takes @domains over. */
static struct note *note_domains(virDomainPtr *domains, int nr)
{
	struct note *note = note_new(NOTE_DOMAINS);

	if (note)
		note->domains = calloc(nr + 1, sizeof(*note->domains));
	if (note && !note->domains) {
		note_free(note);
		note = NULL;
	}
	for (int i = 0; i < nr; i++) {
		if (note)
			add_domain(note, domains[i]);
		virDomainFree(domains[i]);
	}
	free(domains);
	return note;
}

/* Return -1 if libvirt does not tell. */
static int list_domains(virConnectPtr connection)
{
	virDomainPtr *domains = NULL;
	int nr;

	nr = virConnectListAllDomains(connection, &domains,
				      VIR_CONNECT_LIST_DOMAINS_ACTIVE);
	if (nr < 0)
		return -1;
	mailbox_post(watch.mailbox, note_domains(domains, nr));
	return 0;
}

/* Until there is something to do; return false if the connection is lost. */
static bool wait_for_change(void)
{
	bool lost;

	pthread_mutex_lock(&watch.lock);
	while (!watch.dirty && !watch.lost)
		pthread_cond_wait(&watch.changed, &watch.lock);
	watch.dirty = false;
	lost = watch.lost;
	pthread_mutex_unlock(&watch.lock);
	return !lost;
}

/* Said once, not at each attempt. */
static void complain(void)
{
	if (!watch.told_down)
		log_message(LOG_WARNING, "no libvirt at %s: %s; trying again every %d s",
			    watch.uri, virGetLastErrorMessage(), RETRY_S);
	watch.told_down = true;
}

/* Until the connection is lost */
static void follow(virConnectPtr connection)
{
	if (list_domains(connection)) {
		complain();
		return;
	}
	log_message(LOG_INFO, "connected to libvirt at %s", watch.uri);
	watch.told_down = false;
	while (wait_for_change()) {
		if (list_domains(connection))
			break;
	}
	log_message(LOG_WARNING, "the connection to libvirt is lost");
}

/* First of all, so that no change is missed */
static void listen_and_follow(virConnectPtr connection)
{
	int lifecycle, events = -1;

	lifecycle = virConnectDomainEventRegisterAny(
		connection, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
		VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), NULL, NULL);
	if (lifecycle >= 0)
		events = virConnectDomainQemuMonitorEventRegister(
			connection, NULL, PROTOCOL_EVENTS, on_event, NULL, NULL,
			VIR_CONNECT_DOMAIN_QEMU_MONITOR_EVENT_REGISTER_REGEX);
	if (events < 0 || virConnectRegisterCloseCallback(connection, on_close,
							  NULL, NULL)) {
		complain();
	} else {
		follow(connection);
		virConnectUnregisterCloseCallback(connection, on_close);
	}
	if (events >= 0)
		virConnectDomainQemuMonitorEventDeregister(connection, events);
	if (lifecycle >= 0)
		virConnectDomainEventDeregisterAny(connection, lifecycle);
}

static void *run(void *arg)
{
	virConnectPtr connection;

	(void)arg;
	for (;;) {
		pthread_mutex_lock(&watch.lock);
		watch.dirty = false;
		watch.lost = false;
		pthread_mutex_unlock(&watch.lock);
		connection = watch_connect(watch.uri);
		if (connection) {
			listen_and_follow(connection);
			virConnectClose(connection);
		} else {
			complain();
		}
		mailbox_post(watch.mailbox, note_new(NOTE_DOWN));
		sleep(RETRY_S);
	}
	return NULL;
}

/* libvirt's own event loop: its threads call it from everywhere. */
static void *run_events(void *arg)
{
	(void)arg;
	for (;;) {
		if (virEventRunDefaultImpl() < 0)
			sleep(RETRY_S);
	}
	return NULL;
}

int watch_start(const char *uri, struct mailbox *mailbox)
{
	pthread_t thread;

	watch.uri = uri;
	watch.mailbox = mailbox;
	virSetErrorFunc(NULL, ignore_error);
	if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0)
		return -1;
	if (pthread_create(&thread, NULL, run_events, NULL) ||
	    pthread_create(&thread, NULL, run, NULL))
		return -1;
	return 0;
}
