// SPDX-License-Identifier: GPL-2.0
/*
 * Notes between threads.
 */
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "mailbox.h"

int mailbox_init(struct mailbox *mailbox)
{
	pthread_mutex_init(&mailbox->lock, NULL);
	mailbox->first = NULL;
	mailbox->last = &mailbox->first;
	mailbox->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return mailbox->fd < 0 ? -1 : 0;
}

struct note *note_new(enum note_type type)
{
	struct note *note = calloc(1, sizeof(*note));

	if (note)
		note->type = type;
	return note;
}

void note_free(struct note *note)
{
	if (!note)
		return;
	for (size_t i = 0; i < note->nr_domains; i++)
		free(note->domains[i].name);
	free(note->domains);
	free(note->text);
	free(note);
}

void mailbox_post(struct mailbox *mailbox, struct note *note)
{
	const uint64_t one = 1;

	if (!note)
		return;
	pthread_mutex_lock(&mailbox->lock);
	*mailbox->last = note;
	mailbox->last = &note->next;
	pthread_mutex_unlock(&mailbox->lock);
	/* It can only fail if it is readable anyway. */
	if (write(mailbox->fd, &one, sizeof(one)) < 0)
		return;
}

struct note *mailbox_take(struct mailbox *mailbox)
{
	struct note *first;
	uint64_t count;

	/* Before the notes: one that comes in between wakes us again. */
	if (read(mailbox->fd, &count, sizeof(count)) < 0)
		count = 0;
	pthread_mutex_lock(&mailbox->lock);
	first = mailbox->first;
	mailbox->first = NULL;
	mailbox->last = &mailbox->first;
	pthread_mutex_unlock(&mailbox->lock);
	return first;
}
