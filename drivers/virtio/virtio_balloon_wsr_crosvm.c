// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Virtio balloon: working set reports in the format of crosvm.
 *
 * crosvm has a format of its own, older than VIRTIO_BALLOON_F_WORKING_SET:
 * the device says what it wants with operations, which it writes into buffers
 * of ws_op, and gets each report as an array of records, the sum of all nodes,
 * through ws_data. Documentation/virtio/working-set-crosvm.rst describes it.
 *
 *   ws_op: device uses @op -> work -> wsr_receiver_configure()/_request()
 *             ^                |                  |
 *             '--- @op again --'                  |
 *   crosvm_report()  <----------------------------'
 *        | fills @next
 *        v
 *   crosvm_send() -> ws_data -> device uses it -> work -> sends the next, if
 *                                                         there is one
 *
 * The device is not trusted: what it says is checked, and a device that keeps
 * its buffers for ever only stops its own reports.
 */
#include <linux/build_bug.h>
#include <linux/export.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/virtio.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_config.h>
#include <linux/workqueue.h>
#include <linux/wsr.h>

#include "virtio_balloon_wsr_crosvm.h"

/* The only field in the configuration space: u8, the number of bins. */
#define CROSVM_NUM_BINS_OFFSET	16

#define CROSVM_MIN_BINS		2
#define CROSVM_MAX_BINS		16

static_assert(CROSVM_MAX_BINS <= WSR_MAX_BINS);

/* crosvm_op.op */
#define CROSVM_OP_REQUEST	1
#define CROSVM_OP_CONFIG	2

/**
 * struct crosvm_op - what the device writes into a buffer of ws_op
 * @op: CROSVM_OP_REQUEST or CROSVM_OP_CONFIG
 * @ms: only for CROSVM_OP_CONFIG: the bounds of all bins but the last, refresh
 *	and report intervals. Not little-endian, but as the CPU of the host has
 *	it, which must be as in the guest.
 */
struct crosvm_op {
	__le16 op;
	u32 ms[CROSVM_MAX_BINS + 1];
} __packed;

/**
 * struct crosvm_record - a bin of a report
 * @tag: 0; the device ignores it
 * @node_id: 0; the device ignores it
 * @reserved: 0
 * @idle_age_ms: upper bound; of the last bin: U64_MAX
 * @file_bytes: page cache that can be dropped or written back
 * @anon_bytes: anonymous and shared memory
 */
struct crosvm_record {
	__le16 tag;
	__le16 node_id;
	u8 reserved[4];
	__le64 idle_age_ms;
	__le64 file_bytes;
	__le64 anon_bytes;
};

/* The layout is ABI. */
static_assert(offsetof(struct crosvm_op, ms) == 2);
static_assert(sizeof(struct crosvm_op) == 70);
static_assert(offsetof(struct crosvm_record, idle_age_ms) == 8);
static_assert(offsetof(struct crosvm_record, file_bytes) == 16);
static_assert(offsetof(struct crosvm_record, anon_bytes) == 24);
static_assert(sizeof(struct crosvm_record) == 32);

/**
 * struct virtio_balloon_wsr_crosvm_state - working set reporting for crosvm
 * @vdev: the device
 * @receiver: gets the reports; NULL after virtio_balloon_wsr_crosvm_quiesce()
 * @work: takes used buffers, does what the device asks for, sends what waits
 * @op: buffer for an operation; @work's while @op_posted is not set
 * @lock: protects all below. Held by @work and the receiver's callback; of
 *	  mm/wsr, only wsr_receiver_request() is called with it.
 * @running: buffers may be given to the device
 * @data_vq: the queue for reports; NULL if there is none
 * @op_vq: the queue for operations; NULL if there is none
 * @config: the configuration in force; without bounds before the first
 * @op_posted: the device has @op
 * @asked: the device waits for the answer to a request
 * @sent: the buffer that the device has, if @in_flight
 * @next: the buffer that a report is written into
 * @nr_next: records in @next that wait to be sent, 0: none
 * @in_flight: the device has @sent
 */
struct virtio_balloon_wsr_crosvm_state {
	struct virtio_device *vdev;
	struct wsr_receiver *receiver;
	struct work_struct work;
	struct crosvm_op *op;

	struct mutex lock; /* see above */
	bool running;
	struct virtqueue *data_vq;
	struct virtqueue *op_vq;
	struct wsr_config config;
	bool op_posted;
	bool asked;
	struct crosvm_record *sent;
	struct crosvm_record *next;
	unsigned int nr_next;
	bool in_flight;
};

/* Gives @next to the device, unless that still has the one before. */
static void crosvm_send(struct virtio_balloon_wsr_crosvm_state *state)
{
	struct scatterlist sg;

	lockdep_assert_held(&state->lock);

	if (!state->running || state->in_flight || !state->nr_next)
		return;

	sg_init_one(&sg, state->next, state->nr_next * sizeof(*state->next));
	/* If the device is broken, or bounce buffers are short: later, or not */
	if (virtqueue_add_outbuf(state->data_vq, &sg, 1, state, GFP_KERNEL))
		return;

	swap(state->sent, state->next);
	state->nr_next = 0;
	state->in_flight = true;
	virtqueue_kick(state->data_vq);
}

/* Lets the device write the next operation, unless it can already. */
static void crosvm_post_op(struct virtio_balloon_wsr_crosvm_state *state)
{
	struct scatterlist sg;

	lockdep_assert_held(&state->lock);

	if (!state->running || state->op_posted)
		return;

	/* Nothing of the last operation may pass for a part of the next. */
	memset(state->op, 0, sizeof(*state->op));
	sg_init_one(&sg, state->op, sizeof(*state->op));
	if (virtqueue_add_inbuf(state->op_vq, &sg, 1, state, GFP_KERNEL))
		return;

	state->op_posted = true;
	virtqueue_kick(state->op_vq);
}

/* What waits in @next will not be sent. It may have been an answer. */
static void crosvm_discard(struct virtio_balloon_wsr_crosvm_state *state)
{
	lockdep_assert_held(&state->lock);

	if (state->nr_next)
		state->asked = true;
	state->nr_next = 0;
}

/*
 * Writes the sum of all nodes into @next. Returns false if the report is for
 * other bounds than those in force.
 */
static bool crosvm_fill(struct virtio_balloon_wsr_crosvm_state *state,
			const struct wsr_report *report)
{
	const struct wsr_config *config = &state->config;

	for (unsigned int i = 0; i <= config->nr_bounds; i++) {
		u64 bound = i < config->nr_bounds ? config->idle_age_ms[i] :
			    WSR_IDLE_AGE_MAX;
		u64 file_bytes = 0, anon_bytes = 0;

		for (unsigned int n = 0; n < report->nr_scopes; n++) {
			const struct wsr_scope_report *scope =
				&report->scopes[n];

			if (scope->nr_bins != config->nr_bounds + 1 ||
			    scope->bins[i].idle_age_ms != bound)
				return false;
			file_bytes += scope->bins[i].file_backed_bytes;
			anon_bytes += scope->bins[i].swap_backed_bytes;
		}
		state->next[i] = (struct crosvm_record) {
			.idle_age_ms = cpu_to_le64(bound),
			.file_bytes = cpu_to_le64(file_bytes),
			.anon_bytes = cpu_to_le64(anon_bytes),
		};
	}
	return true;
}

static void crosvm_report(struct wsr_receiver *receiver,
			  const struct wsr_report *report)
{
	struct virtio_balloon_wsr_crosvm_state *state = receiver->private_data;

	guard(mutex)(&state->lock);

	/* Only for a request that was answered in the meantime? */
	if (report->reasons == BIT(WSR_REASON_REQUEST) && !state->asked)
		return;

	/* There is no way to say that there are no data: the next will do. */
	if (!state->running || !report->nr_scopes)
		return;

	crosvm_discard(state);
	if (!crosvm_fill(state, report)) {
		/* The bounds changed while the report was made. */
		if (state->asked)
			wsr_receiver_request(receiver);
		return;
	}
	state->nr_next = state->config.nr_bounds + 1;
	state->asked = false;
	crosvm_send(state);
}

/* The number of bins that reports must have; 0 if it is out of range. */
static unsigned int crosvm_num_bins(struct virtio_device *vdev)
{
	u8 num_bins = virtio_cread8(vdev, CROSVM_NUM_BINS_OFFSET);

	if (num_bins < CROSVM_MIN_BINS || num_bins > CROSVM_MAX_BINS)
		return 0;
	return num_bins;
}

/*
 * Does CROSVM_OP_CONFIG. If it is malformed or out of range, what the device
 * said before still holds: it can't be told of errors.
 */
static void crosvm_configure(struct virtio_balloon_wsr_crosvm_state *state,
			     size_t len)
{
	unsigned int num_bins = crosvm_num_bins(state->vdev);
	const struct crosvm_op *op = state->op;
	struct wsr_config config = {};

	/* All bounds, and two intervals */
	if (!num_bins || len != offsetof(struct crosvm_op, ms[num_bins + 1]))
		return;

	config.nr_bounds = num_bins - 1;
	for (unsigned int i = 0; i < config.nr_bounds; i++)
		config.idle_age_ms[i] = op->ms[i];
	config.refresh_ms = max_t(u32, op->ms[num_bins - 1],
				  WSR_MIN_REFRESH_MS);
	config.report_ms = op->ms[num_bins];
	if (wsr_receiver_configure(state->receiver, &config))
		return;

	guard(mutex)(&state->lock);
	state->config = config;
	/* It has the old bounds. */
	crosvm_discard(state);
	/* A request may have waited for the first configuration. */
	if (state->asked)
		wsr_receiver_request(state->receiver);
}

/* Does what the device has written into @op, if this makes sense. */
static void crosvm_do_op(struct virtio_balloon_wsr_crosvm_state *state,
			 size_t len)
{
	if (len < offsetof(struct crosvm_op, ms))
		return;

	switch (le16_to_cpu(state->op->op)) {
	case CROSVM_OP_REQUEST:
		scoped_guard(mutex, &state->lock)
			state->asked = true;
		wsr_receiver_request(state->receiver);
		break;
	case CROSVM_OP_CONFIG:
		crosvm_configure(state, len);
		break;
	}
}

static void crosvm_work(struct work_struct *work)
{
	struct virtio_balloon_wsr_crosvm_state *state =
		container_of(work, struct virtio_balloon_wsr_crosvm_state,
			     work);
	bool has_op = false;
	unsigned int len;

	scoped_guard(mutex, &state->lock) {
		if (!state->running)
			return;
		if (state->in_flight && virtqueue_get_buf(state->data_vq, &len))
			state->in_flight = false;
		crosvm_send(state);
		if (state->op_posted && virtqueue_get_buf(state->op_vq, &len)) {
			state->op_posted = false;
			has_op = true;
		}
	}

	/* One at a time: who waits for this work must not wait for ever. */
	if (has_op)
		crosvm_do_op(state, min(len, sizeof(*state->op)));

	guard(mutex)(&state->lock);
	crosvm_post_op(state);
}

/**
 * virtio_balloon_wsr_crosvm_validate - refuse the feature where it can't work
 * @vdev: the device, after all other features were decided
 *
 * The indices of the queues follow the same rule as in
 * virtio_balloon_wsr_validate(), so they are wrong if an earlier queue was
 * refused. VIRTIO_BALLOON_F_WORKING_SET has another meaning for the same bytes of
 * the configuration space.
 */
void virtio_balloon_wsr_crosvm_validate(struct virtio_device *vdev)
{
	u64 queues = BIT_ULL(VIRTIO_BALLOON_F_STATS_VQ) |
		     BIT_ULL(VIRTIO_BALLOON_F_FREE_PAGE_HINT) |
		     BIT_ULL(VIRTIO_BALLOON_F_REPORTING);
	u64 offered[VIRTIO_FEATURES_U64S];

	if (!__virtio_test_bit(vdev, VIRTIO_BALLOON_F_CROSVM_WORKING_SET))
		return;

	virtio_get_features(vdev, offered);
	if (!__virtio_test_bit(vdev, VIRTIO_F_VERSION_1) ||
	    (offered[0] & BIT_ULL(VIRTIO_BALLOON_F_WORKING_SET)) ||
	    (offered[0] & queues) != (vdev->features & queues) ||
	    !crosvm_num_bins(vdev))
		__virtio_clear_bit(vdev, VIRTIO_BALLOON_F_CROSVM_WORKING_SET);
}
EXPORT_SYMBOL_GPL(virtio_balloon_wsr_crosvm_validate);

/**
 * virtio_balloon_wsr_crosvm_init - allocate all that reporting needs
 * @wsr: to be initialised
 * @vdev: the device
 *
 * Does nothing without VIRTIO_BALLOON_F_CROSVM_WORKING_SET.
 *
 * Context: may sleep.
 * Return: 0 or -ENOMEM. virtio_balloon_wsr_crosvm_free() undoes it.
 */
int virtio_balloon_wsr_crosvm_init(struct virtio_balloon_wsr_crosvm *wsr,
				   struct virtio_device *vdev)
{
	struct virtio_balloon_wsr_crosvm_state *state;

	if (!virtio_has_feature(vdev, VIRTIO_BALLOON_F_CROSVM_WORKING_SET))
		return 0;

	state = kzalloc(sizeof(*state), GFP_KERNEL);
	if (!state)
		return -ENOMEM;

	wsr->state = state;
	state->vdev = vdev;
	mutex_init(&state->lock);
	INIT_WORK(&state->work, crosvm_work);
	state->op = kzalloc(sizeof(*state->op), GFP_KERNEL);
	state->sent = kcalloc(CROSVM_MAX_BINS, sizeof(*state->sent),
			      GFP_KERNEL);
	state->next = kcalloc(CROSVM_MAX_BINS, sizeof(*state->next),
			      GFP_KERNEL);
	state->receiver = wsr_receiver_alloc("%s", dev_name(&vdev->dev));
	if (!state->op || !state->sent || !state->next || !state->receiver)
		goto err_free;

	state->receiver->report = crosvm_report;
	state->receiver->private_data = state;
	if (wsr_receiver_register(state->receiver))
		goto err_free;
	return 0;

err_free:
	virtio_balloon_wsr_crosvm_free(wsr);
	return -ENOMEM;
}
EXPORT_SYMBOL_GPL(virtio_balloon_wsr_crosvm_init);

/**
 * virtio_balloon_wsr_crosvm_set_vqs - use these queues from now on
 * @wsr: initialised, with the feature
 * @data_vq: ws_data
 * @op_vq: ws_op
 *
 * Context: may sleep. Nothing happens before virtio_balloon_wsr_crosvm_wake().
 */
void virtio_balloon_wsr_crosvm_set_vqs(struct virtio_balloon_wsr_crosvm *wsr,
				       struct virtqueue *data_vq,
				       struct virtqueue *op_vq)
{
	struct virtio_balloon_wsr_crosvm_state *state = wsr->state;

	guard(mutex)(&state->lock);
	state->data_vq = data_vq;
	state->op_vq = op_vq;
	/*
	 * An answer that waited is lost. The configuration holds: the device does
	 * not know of suspend, and would not say it again.
	 */
	state->asked = false;
	state->nr_next = 0;
	state->running = true;
}
EXPORT_SYMBOL_GPL(virtio_balloon_wsr_crosvm_set_vqs);

/**
 * virtio_balloon_wsr_crosvm_wake - the device has become ready, or used a buffer
 * @wsr: initialised
 *
 * Context: any.
 */
void virtio_balloon_wsr_crosvm_wake(struct virtio_balloon_wsr_crosvm *wsr)
{
	if (wsr->state)
		queue_work(system_freezable_wq, &wsr->state->work);
}
EXPORT_SYMBOL_GPL(virtio_balloon_wsr_crosvm_wake);

/**
 * virtio_balloon_wsr_crosvm_stop - the queues go away, but may come back
 * @wsr: initialised
 *
 * Context: may sleep. Called before suspend, with freezable workqueues frozen.
 */
void virtio_balloon_wsr_crosvm_stop(struct virtio_balloon_wsr_crosvm *wsr)
{
	struct virtio_balloon_wsr_crosvm_state *state = wsr->state;

	if (!state)
		return;

	guard(mutex)(&state->lock);
	state->running = false;
}
EXPORT_SYMBOL_GPL(virtio_balloon_wsr_crosvm_stop);

/**
 * virtio_balloon_wsr_crosvm_quiesce - stop for good
 * @wsr: initialised
 *
 * The device may still call virtio_balloon_wsr_crosvm_wake() until it is reset;
 * it does nothing any more.
 *
 * Context: may sleep. Called before the queues are deleted.
 */
void virtio_balloon_wsr_crosvm_quiesce(struct virtio_balloon_wsr_crosvm *wsr)
{
	struct virtio_balloon_wsr_crosvm_state *state = wsr->state;

	if (!state)
		return;

	/* Both can be done again: virtio_balloon_wsr_crosvm_free() does. */
	disable_work_sync(&state->work);
	wsr_receiver_free(state->receiver);
	state->receiver = NULL;
}
EXPORT_SYMBOL_GPL(virtio_balloon_wsr_crosvm_quiesce);

/**
 * virtio_balloon_wsr_crosvm_detach - take back what the device has
 * @wsr: initialised, after virtio_balloon_wsr_crosvm_stop() or _quiesce()
 *
 * There always is a buffer in ws_op; del_vqs() would not unmap it.
 *
 * Context: may sleep. Called after the device was reset, before the queues are
 * deleted.
 */
void virtio_balloon_wsr_crosvm_detach(struct virtio_balloon_wsr_crosvm *wsr)
{
	struct virtio_balloon_wsr_crosvm_state *state = wsr->state;

	if (!state)
		return;

	guard(mutex)(&state->lock);
	/* Not if waking up from suspend has failed. */
	if (!state->data_vq)
		return;
	virtqueue_detach_unused_buf(state->data_vq);
	virtqueue_detach_unused_buf(state->op_vq);
	state->data_vq = NULL;
	state->op_vq = NULL;
	state->in_flight = false;
	state->op_posted = false;
}
EXPORT_SYMBOL_GPL(virtio_balloon_wsr_crosvm_detach);

/**
 * virtio_balloon_wsr_crosvm_free - undo virtio_balloon_wsr_crosvm_init()
 * @wsr: initialised. If queues were set, the device was reset.
 *
 * Context: may sleep.
 */
void virtio_balloon_wsr_crosvm_free(struct virtio_balloon_wsr_crosvm *wsr)
{
	struct virtio_balloon_wsr_crosvm_state *state = wsr->state;

	if (!state)
		return;

	virtio_balloon_wsr_crosvm_quiesce(wsr);
	mutex_destroy(&state->lock);
	kfree(state->op);
	kfree(state->sent);
	kfree(state->next);
	kfree(state);
	wsr->state = NULL;
}
EXPORT_SYMBOL_GPL(virtio_balloon_wsr_crosvm_free);

MODULE_DESCRIPTION("Virtio balloon driver: working set reports for crosvm");
MODULE_LICENSE("GPL");
