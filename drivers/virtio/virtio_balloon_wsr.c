// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Virtio balloon: working set reports.
 *
 * The device says in its configuration space which reports it wants; the driver
 * is a receiver of mm/wsr and puts each report into a buffer of working_set_vq.
 * Documentation/virtio/working-set.rst describes the protocol.
 *
 *   config change -> config_work -> wsr_receiver_configure()/_request()
 *                                        |
 *   virtio_balloon_wsr_report()  <-------'
 *        | fills @next
 *        v
 *   virtio_balloon_wsr_send() -> queue -> device
 *
 * The device has used the buffer long before the next report is made, as a rule.
 * Only if it has not, an interrupt has to tell: ack -> ack_work -> send. It may
 * come without need, if queues share it.
 *
 * With VIRTIO_BALLOON_F_WORKING_SET_RECLAIM it may also ask to reclaim memory
 * that is idle, which takes some seconds: this is the job of reclaim_work. The
 * result is part of all reports from then on.
 *
 * The device is not trusted: what it says is checked, and a device that keeps
 * its buffer for ever only stops its own reports.
 */
#include <linux/build_bug.h>
#include <linux/export.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/nodemask.h>
#include <linux/notifier.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/suspend.h>
#include <linux/virtio.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_config.h>
#include <linux/workqueue.h>
#include <linux/wsr.h>

#include "virtio_balloon_wsr.h"

/* More nodes than this are not reported; QEMU has no more. */
#define VIRTIO_BALLOON_WSR_MAX_RECORDS	128U

/* The configuration may change while it is read. */
#define VIRTIO_BALLOON_WSR_MAX_TRIES	8

/**
 * struct virtio_balloon_wsr_reclaim - a request to reclaim memory
 * @id: number of the request, 0: there is none
 * @idle_ms: only what was not accessed for this long
 * @node: only from this node, or VIRTIO_BALLOON_WORKING_SET_NO_NODE
 * @max_bytes: at most so many bytes
 */
struct virtio_balloon_wsr_reclaim {
	u32 id;
	u32 idle_ms;
	u16 node;
	u64 max_bytes;
};

/**
 * struct virtio_balloon_wsr_state - working set reporting of a balloon device
 * @vdev: the device
 * @receiver: gets the reports; NULL after virtio_balloon_wsr_quiesce()
 * @config_work: reads the configuration space
 * @ack_work: sends what had to wait until the device used the buffer
 * @reclaim_work: reclaims memory, which may take long; ended before suspend, when
 *		  swap space can still be written to
 * @pm_notifier: does that
 * @lock: protects all below. Held by the works and the receiver's callback; of
 *	  mm/wsr, only wsr_receiver_request() is called with it.
 * @vq: the queue; NULL while the device is stopped
 * @config: the configuration in force
 * @status: why there are no reports with @config, or that there are
 * @cmd_id: the last id read from the device, 0: no reports are wanted
 * @asked_id: the id that mm/wsr was asked a report for, 0: none
 * @answer_id: the id that the next buffer answers, 0: none
 * @sequence: that of the last report sent
 * @sent: the buffer that the device has, if @in_flight
 * @next: the buffer that a report is written into
 * @next_len: bytes of @next that wait to be sent, 0: none
 * @in_flight: the device has @sent, or has used it and nobody took it back yet
 * @reclaim: the last request to reclaim memory
 * @cancel_reclaim: @reclaim_work should end early; it reads this without @lock
 * @reclaim_ended: no report was made since a request to reclaim ended
 * @reclaim_id: number of the last request that ended, 0: none
 * @reclaim_status: how it ended
 * @reclaimed_bytes: what it reclaimed
 */
struct virtio_balloon_wsr_state {
	struct virtio_device *vdev;
	struct wsr_receiver *receiver;
	struct work_struct config_work;
	struct work_struct ack_work;
	struct work_struct reclaim_work;
	struct notifier_block pm_notifier;

	struct mutex lock; /* see above */
	struct virtqueue *vq;
	struct wsr_config config;
	u16 status;
	u32 cmd_id;
	u32 asked_id;
	u32 answer_id;
	u64 sequence;
	void *sent;
	void *next;
	size_t next_len;
	bool in_flight;
	struct virtio_balloon_wsr_reclaim reclaim;
	bool cancel_reclaim;
	bool reclaim_ended;
	u32 reclaim_id;
	u16 reclaim_status;
	u64 reclaimed_bytes;
};

/* The layout is ABI. */
static_assert(offsetof(struct virtio_balloon_config,
		       working_set_cmd_id) == 16);
static_assert(offsetof(struct virtio_balloon_config,
		       working_set_report_ms) == 20);
static_assert(offsetof(struct virtio_balloon_config,
		       working_set_refresh_ms) == 24);
static_assert(offsetof(struct virtio_balloon_config,
		       working_set_nr_bins) == 28);
static_assert(offsetof(struct virtio_balloon_config,
		       working_set_idle_age_ms) == 32);
static_assert(offsetof(struct virtio_balloon_config,
		       working_set_reclaim_id) == 92);
static_assert(offsetof(struct virtio_balloon_config,
		       working_set_reclaim_idle_ms) == 96);
static_assert(offsetof(struct virtio_balloon_config,
		       working_set_reclaim_node) == 100);
static_assert(offsetof(struct virtio_balloon_config,
		       working_set_reclaim_bytes) == 104);
static_assert(sizeof(struct virtio_balloon_config) == 112);
static_assert(sizeof(struct virtio_balloon_working_set_hdr) == 96);
static_assert(offsetof(struct virtio_balloon_working_set_hdr, sequence) == 16);
static_assert(offsetof(struct virtio_balloon_working_set_hdr,
		       refaulted_bytes) == 72);
static_assert(offsetof(struct virtio_balloon_working_set_hdr,
		       reclaim_id) == 80);
static_assert(offsetof(struct virtio_balloon_working_set_hdr,
		       reclaim_status) == 84);
static_assert(offsetof(struct virtio_balloon_working_set_hdr,
		       reclaimed_bytes) == 88);
static_assert(sizeof(struct virtio_balloon_working_set_bin) == 24);

static size_t record_size(unsigned int nr_bins)
{
	return sizeof(struct virtio_balloon_working_set_hdr) +
	       nr_bins * sizeof(struct virtio_balloon_working_set_bin);
}

/*
 * Takes the buffer back from the device, if that has used it. If not, ack_work
 * will run as soon as it has.
 */
static void virtio_balloon_wsr_take_back(struct virtio_balloon_wsr_state *state)
{
	unsigned int len;

	lockdep_assert_held(&state->lock);

	while (state->in_flight) {
		virtqueue_disable_cb(state->vq);
		if (virtqueue_get_buf(state->vq, &len))
			state->in_flight = false;
		else if (virtqueue_enable_cb(state->vq))
			break;
	}
}

/* Gives @next to the device, unless that still has the one before. */
static void virtio_balloon_wsr_send(struct virtio_balloon_wsr_state *state)
{
	struct virtio_balloon_working_set_hdr *hdr;
	struct scatterlist sg;
	size_t off = 0;

	lockdep_assert_held(&state->lock);

	if (!state->vq)
		return;
	virtio_balloon_wsr_take_back(state);
	if (state->in_flight || !state->next_len)
		return;

	do {
		hdr = state->next + off;
		hdr->cmd_id = cpu_to_le32(state->answer_id);
		hdr->sequence = cpu_to_le64(state->sequence + 1);
		hdr->reclaim_id = cpu_to_le32(state->reclaim_id);
		hdr->reclaim_status = cpu_to_le16(state->reclaim_status);
		hdr->reclaimed_bytes = cpu_to_le64(state->reclaimed_bytes);
		off += record_size(le16_to_cpu(hdr->nr_bins));
	} while (off < state->next_len);

	sg_init_one(&sg, state->next, state->next_len);
	/* If the device is broken, or bounce buffers are short: later, or not */
	if (virtqueue_add_outbuf(state->vq, &sg, 1, state, GFP_KERNEL))
		return;

	state->sequence++;
	swap(state->sent, state->next);
	state->next_len = 0;
	state->answer_id = 0;
	state->in_flight = true;
	virtqueue_kick(state->vq);
}

/* A report without data: why there are none. Answers what was asked for. */
static void virtio_balloon_wsr_send_status(struct virtio_balloon_wsr_state *state,
					   u16 status)
{
	struct virtio_balloon_working_set_hdr *hdr = state->next;

	lockdep_assert_held(&state->lock);

	memset(hdr, 0, sizeof(*hdr));
	hdr->node_id = cpu_to_le16(VIRTIO_BALLOON_WORKING_SET_NO_NODE);
	hdr->status = cpu_to_le16(status);
	state->next_len = sizeof(*hdr);
	if (state->asked_id)
		state->answer_id = state->asked_id;
	state->asked_id = 0;
	state->reclaim_ended = false;
	virtio_balloon_wsr_send(state);
}

/* Writes one record and returns its size. */
static size_t virtio_balloon_wsr_fill(void *buf,
				      const struct wsr_scope_report *scope,
				      bool more)
{
	struct virtio_balloon_working_set_hdr *hdr = buf;
	struct virtio_balloon_working_set_bin *bin = buf + sizeof(*hdr);
	u16 flags = 0;

	if (more)
		flags |= VIRTIO_BALLOON_WORKING_SET_F_MORE;
	if (scope->warming_up)
		flags |= VIRTIO_BALLOON_WORKING_SET_F_WARMING_UP;

	*hdr = (struct virtio_balloon_working_set_hdr) {
		.node_id = cpu_to_le16(scope->nid),
		.nr_bins = cpu_to_le16(scope->nr_bins),
		.status = cpu_to_le16(VIRTIO_BALLOON_WORKING_SET_OK),
		.flags = cpu_to_le16(flags),
		.age_ms = cpu_to_le32(min_t(u64, scope->age_ms, U32_MAX)),
		.total_bytes = cpu_to_le64(scope->total_bytes),
		.free_bytes = cpu_to_le64(scope->free_bytes),
		.unevictable_bytes = cpu_to_le64(scope->unevictable_bytes),
		.kernel_bytes = cpu_to_le64(scope->kernel_bytes),
		.slab_reclaimable_bytes =
			cpu_to_le64(scope->slab_reclaimable_bytes),
		.swap_free_bytes = cpu_to_le64(scope->swap_free_bytes),
		.refaulted_bytes = cpu_to_le64(scope->refaulted_bytes),
	};
	for (unsigned int i = 0; i < scope->nr_bins; i++, bin++) {
		bin->idle_age_ms = cpu_to_le64(scope->bins[i].idle_age_ms);
		bin->swap_backed_bytes =
			cpu_to_le64(scope->bins[i].swap_backed_bytes);
		bin->file_backed_bytes =
			cpu_to_le64(scope->bins[i].file_backed_bytes);
	}
	return record_size(scope->nr_bins);
}

static bool has_bounds_of(const struct wsr_scope_report *scope,
			  const struct wsr_config *config)
{
	if (scope->nr_bins != config->nr_bounds + 1)
		return false;
	for (unsigned int i = 0; i < config->nr_bounds; i++) {
		if (scope->bins[i].idle_age_ms != config->idle_age_ms[i])
			return false;
	}
	return true;
}

static void virtio_balloon_wsr_report(struct wsr_receiver *receiver,
				      const struct wsr_report *report)
{
	struct virtio_balloon_wsr_state *state = receiver->private_data;
	unsigned int nr = min(report->nr_scopes,
			      VIRTIO_BALLOON_WSR_MAX_RECORDS);
	u16 try_later = VIRTIO_BALLOON_WORKING_SET_TRY_LATER;
	size_t len = 0;
	bool wanted;

	guard(mutex)(&state->lock);

	if (!state->cmd_id)
		return;

	/* Only for a request that was answered in the meantime? */
	wanted = state->asked_id || state->reclaim_ended;
	if (report->reasons == BIT(WSR_REASON_REQUEST) && !wanted)
		return;

	/* The bounds changed while the report was made. */
	if (nr && !has_bounds_of(&report->scopes[0], &state->config)) {
		if (wanted)
			wsr_receiver_request(receiver);
		return;
	}

	if (!nr) {
		if (wanted)
			virtio_balloon_wsr_send_status(state, try_later);
		return;
	}

	for (unsigned int i = 0; i < nr; i++)
		len += virtio_balloon_wsr_fill(state->next + len,
					       &report->scopes[i], i < nr - 1);
	state->next_len = len;
	if (state->asked_id)
		state->answer_id = state->asked_id;
	state->asked_id = 0;
	state->reclaim_ended = false;
	virtio_balloon_wsr_send(state);
}

static void virtio_balloon_wsr_read_reclaim(struct virtio_device *vdev,
					    struct virtio_balloon_wsr_reclaim *reclaim)
{
	__le64 max_bytes;

	virtio_cread_le(vdev, struct virtio_balloon_config,
			working_set_reclaim_id, &reclaim->id);
	virtio_cread_le(vdev, struct virtio_balloon_config,
			working_set_reclaim_idle_ms, &reclaim->idle_ms);
	virtio_cread_le(vdev, struct virtio_balloon_config,
			working_set_reclaim_node, &reclaim->node);
	/* virtio_cread_le() would wait for a generation that lasts. */
	vdev->config->get(vdev, offsetof(struct virtio_balloon_config,
					 working_set_reclaim_bytes),
			  &max_bytes, sizeof(max_bytes));
	reclaim->max_bytes = le64_to_cpu(max_bytes);
}

/*
 * Reads the configuration space. Returns the command id; @config has no bounds
 * if the parameters are out of range.
 */
static u32 virtio_balloon_wsr_read(struct virtio_device *vdev,
				   struct wsr_config *config,
				   struct virtio_balloon_wsr_reclaim *reclaim)
{
	bool reclaims = virtio_has_feature(vdev,
					   VIRTIO_BALLOON_F_WORKING_SET_RECLAIM);
	int tries = VIRTIO_BALLOON_WSR_MAX_TRIES;
	u32 generation, cmd_id;
	u8 nr_bins;

	memset(reclaim, 0, sizeof(*reclaim));
	do {
		memset(config, 0, sizeof(*config));
		generation = vdev->config->generation ?
			     vdev->config->generation(vdev) : 0;
		virtio_cread_le(vdev, struct virtio_balloon_config,
				working_set_cmd_id, &cmd_id);
		/* Each field costs an exit; without an id, all others mean nothing. */
		if (!cmd_id)
			return 0;
		virtio_cread_le(vdev, struct virtio_balloon_config,
				working_set_report_ms, &config->report_ms);
		virtio_cread_le(vdev, struct virtio_balloon_config,
				working_set_refresh_ms, &config->refresh_ms);
		virtio_cread_le(vdev, struct virtio_balloon_config,
				working_set_nr_bins, &nr_bins);
		if (nr_bins >= 2 && nr_bins <= WSR_MAX_BINS)
			config->nr_bounds = nr_bins - 1;
		for (unsigned int i = 0; i < config->nr_bounds; i++)
			virtio_cread_le(vdev, struct virtio_balloon_config,
					working_set_idle_age_ms[i],
					&config->idle_age_ms[i]);
		if (reclaims)
			virtio_balloon_wsr_read_reclaim(vdev, reclaim);
	} while (vdev->config->generation &&
		 vdev->config->generation(vdev) != generation && --tries);

	config->refresh_ms = max_t(u32, config->refresh_ms, WSR_MIN_REFRESH_MS);
	return cmd_id;
}

/* Only called by config_work, so there is one call at a time. */
static void virtio_balloon_wsr_configure(struct virtio_balloon_wsr_state *state,
					 u32 cmd_id,
					 const struct wsr_config *config)
{
	static const struct wsr_config nothing;
	bool asks, same;
	int err = 0;

	mutex_lock(&state->lock);
	asks = cmd_id && cmd_id != state->cmd_id;
	same = cmd_id == state->cmd_id &&
	       !memcmp(config, &state->config, sizeof(*config));
	mutex_unlock(&state->lock);
	/* The balloon's own fields change more often than ours. */
	if (same)
		return;

	if (cmd_id && !config->nr_bounds)
		err = -EINVAL;
	if (!err)
		err = wsr_receiver_configure(state->receiver, config);
	if (err)
		wsr_receiver_configure(state->receiver, &nothing);

	mutex_lock(&state->lock);
	state->cmd_id = cmd_id;
	state->config = *config;
	state->status = VIRTIO_BALLOON_WORKING_SET_OK;
	if (err == -EINVAL) {
		state->status = VIRTIO_BALLOON_WORKING_SET_UNSUPPORTED;
	} else if (err) {
		state->status = VIRTIO_BALLOON_WORKING_SET_TRY_LATER;
		/* The next notification tries again. */
		state->config = nothing;
	}
	if (!cmd_id) {
		state->next_len = 0;
		state->answer_id = 0;
		state->asked_id = 0;
	} else if (asks) {
		state->asked_id = cmd_id;
		if (err)
			virtio_balloon_wsr_send_status(state, state->status);
	}
	mutex_unlock(&state->lock);

	if (asks && !err)
		wsr_receiver_request(state->receiver);
}

/* Does what a request asks for; returns how it ended, or -EINTR. */
static int virtio_balloon_wsr_do_reclaim(struct virtio_balloon_wsr_state *state,
					 const struct virtio_balloon_wsr_reclaim *request,
					 u64 *reclaimed_bytes)
{
	bool all = request->node == VIRTIO_BALLOON_WORKING_SET_NO_NODE;
	int status = VIRTIO_BALLOON_WORKING_SET_OK;
	struct wsr_reclaim_result result;
	int nid, err;

	*reclaimed_bytes = 0;
	if (!request->idle_ms || !request->max_bytes ||
	    (!all && (request->node >= nr_node_ids ||
		      !node_state(request->node, N_MEMORY))))
		return VIRTIO_BALLOON_WORKING_SET_UNSUPPORTED;

	for_each_node_state(nid, N_MEMORY) {
		if (!all && nid != request->node)
			continue;
		if (*reclaimed_bytes >= request->max_bytes)
			break;
		err = wsr_reclaim(NULL, nid,
				  request->max_bytes - *reclaimed_bytes,
				  request->idle_ms, &state->cancel_reclaim,
				  &result);
		*reclaimed_bytes += result.reclaimed_bytes;
		if (err == -EINTR)
			return err;
		if (err)
			status = VIRTIO_BALLOON_WORKING_SET_TRY_LATER;
	}
	/* One node may have had what another one lacked. */
	if (*reclaimed_bytes >= request->max_bytes - request->max_bytes / 32)
		status = VIRTIO_BALLOON_WORKING_SET_OK;
	return status;
}

static void virtio_balloon_wsr_reclaim_work(struct work_struct *work)
{
	struct virtio_balloon_wsr_state *state =
		container_of(work, struct virtio_balloon_wsr_state,
			     reclaim_work);
	struct virtio_balloon_wsr_reclaim request;
	u64 reclaimed_bytes;
	int status;

	mutex_lock(&state->lock);
	request = state->reclaim;
	WRITE_ONCE(state->cancel_reclaim, false);
	mutex_unlock(&state->lock);
	if (!request.id)
		return;

	status = virtio_balloon_wsr_do_reclaim(state, &request,
					       &reclaimed_bytes);

	guard(mutex)(&state->lock);
	/* Without an answer: another request is there, or the device is gone. */
	if (status < 0 || state->reclaim.id != request.id)
		return;
	state->reclaim_id = request.id;
	state->reclaim_status = status;
	state->reclaimed_bytes = reclaimed_bytes;
	state->reclaim_ended = true;
	/* No reports are made of which it could be a part? */
	if (state->cmd_id && state->status)
		virtio_balloon_wsr_send_status(state, state->status);
	else
		wsr_receiver_request(state->receiver);
}

static void virtio_balloon_wsr_ask_reclaim(struct virtio_balloon_wsr_state *state,
					   const struct virtio_balloon_wsr_reclaim *reclaim)
{
	guard(mutex)(&state->lock);
	if (reclaim->id == state->reclaim.id)
		return;

	state->reclaim = *reclaim;
	WRITE_ONCE(state->cancel_reclaim, true);
	queue_work(system_freezable_wq, &state->reclaim_work);
}

static void virtio_balloon_wsr_config_work(struct work_struct *work)
{
	struct virtio_balloon_wsr_state *state =
		container_of(work, struct virtio_balloon_wsr_state, config_work);
	struct virtio_balloon_wsr_reclaim reclaim;
	struct wsr_config config;
	u32 cmd_id;

	cmd_id = virtio_balloon_wsr_read(state->vdev, &config, &reclaim);
	if (!cmd_id) {
		/* Without reports, nobody would hear of the result of reclaim. */
		memset(&config, 0, sizeof(config));
		memset(&reclaim, 0, sizeof(reclaim));
	}
	virtio_balloon_wsr_configure(state, cmd_id, &config);
	virtio_balloon_wsr_ask_reclaim(state, &reclaim);
}

static void virtio_balloon_wsr_ack_work(struct work_struct *work)
{
	struct virtio_balloon_wsr_state *state =
		container_of(work, struct virtio_balloon_wsr_state, ack_work);

	guard(mutex)(&state->lock);
	virtio_balloon_wsr_send(state);
}

/**
 * virtio_balloon_wsr_validate - refuse the features where they can't work
 * @vdev: the device, after all other features were decided
 *
 * The index of the queue is the number of queues before it. Devices count the
 * queues of the features they offer, virtio_find_vqs() those of the features
 * that were accepted. If one was refused, ours would be somebody else's.
 */
void virtio_balloon_wsr_validate(struct virtio_device *vdev)
{
	u64 queues = BIT_ULL(VIRTIO_BALLOON_F_STATS_VQ) |
		     BIT_ULL(VIRTIO_BALLOON_F_FREE_PAGE_HINT) |
		     BIT_ULL(VIRTIO_BALLOON_F_REPORTING);
	u64 offered[VIRTIO_FEATURES_U64S];

	virtio_get_features(vdev, offered);
	if (!__virtio_test_bit(vdev, VIRTIO_F_VERSION_1) ||
	    (offered[0] & queues) != (vdev->features & queues))
		__virtio_clear_bit(vdev, VIRTIO_BALLOON_F_WORKING_SET);
	if (!__virtio_test_bit(vdev, VIRTIO_BALLOON_F_WORKING_SET))
		__virtio_clear_bit(vdev, VIRTIO_BALLOON_F_WORKING_SET_RECLAIM);
}
EXPORT_SYMBOL_GPL(virtio_balloon_wsr_validate);

static void virtio_balloon_wsr_cancel_reclaim(struct virtio_balloon_wsr_state *state)
{
	guard(mutex)(&state->lock);
	/* If the work starts only now, it finds nothing to do. */
	memset(&state->reclaim, 0, sizeof(state->reclaim));
	WRITE_ONCE(state->cancel_reclaim, true);
}

static int virtio_balloon_wsr_pm(struct notifier_block *notifier,
				 unsigned long action, void *unused)
{
	struct virtio_balloon_wsr_state *state =
		container_of(notifier, struct virtio_balloon_wsr_state,
			     pm_notifier);

	if (action == PM_SUSPEND_PREPARE || action == PM_HIBERNATION_PREPARE) {
		virtio_balloon_wsr_cancel_reclaim(state);
		flush_work(&state->reclaim_work);
	}
	return NOTIFY_DONE;
}

/**
 * virtio_balloon_wsr_init - allocate all that reporting needs
 * @wsr: to be initialised
 * @vdev: the device
 *
 * Does nothing without VIRTIO_BALLOON_F_WORKING_SET.
 *
 * Context: may sleep.
 * Return: 0 or -ENOMEM. virtio_balloon_wsr_free() undoes it.
 */
int virtio_balloon_wsr_init(struct virtio_balloon_wsr *wsr,
			    struct virtio_device *vdev)
{
	size_t size = min(nr_node_ids, VIRTIO_BALLOON_WSR_MAX_RECORDS) *
		      record_size(WSR_MAX_BINS);
	struct virtio_balloon_wsr_state *state;

	if (!virtio_has_feature(vdev, VIRTIO_BALLOON_F_WORKING_SET))
		return 0;

	state = kzalloc(sizeof(*state), GFP_KERNEL);
	if (!state)
		return -ENOMEM;

	wsr->state = state;
	state->vdev = vdev;
	mutex_init(&state->lock);
	INIT_WORK(&state->config_work, virtio_balloon_wsr_config_work);
	INIT_WORK(&state->ack_work, virtio_balloon_wsr_ack_work);
	INIT_WORK(&state->reclaim_work, virtio_balloon_wsr_reclaim_work);
	state->sent = kmalloc(size, GFP_KERNEL);
	state->next = kmalloc(size, GFP_KERNEL);
	state->receiver = wsr_receiver_alloc("%s", dev_name(&vdev->dev));
	if (!state->sent || !state->next || !state->receiver)
		goto err_free;

	state->receiver->report = virtio_balloon_wsr_report;
	state->receiver->private_data = state;
	if (wsr_receiver_register(state->receiver))
		goto err_free;
	state->pm_notifier.notifier_call = virtio_balloon_wsr_pm;
	register_pm_notifier(&state->pm_notifier);
	return 0;

err_free:
	virtio_balloon_wsr_free(wsr);
	return -ENOMEM;
}
EXPORT_SYMBOL_GPL(virtio_balloon_wsr_init);

/**
 * virtio_balloon_wsr_set_vq - use this queue from now on
 * @wsr: initialised, with the feature
 * @vq: working_set_vq
 *
 * Context: may sleep. Nothing is sent before virtio_balloon_wsr_changed() makes
 * the configuration be read.
 */
void virtio_balloon_wsr_set_vq(struct virtio_balloon_wsr *wsr,
			       struct virtqueue *vq)
{
	struct virtio_balloon_wsr_state *state = wsr->state;

	guard(mutex)(&state->lock);
	state->vq = vq;
	virtqueue_disable_cb(vq);
	/* What an old queue had is lost, and so is an answer that waited. */
	state->in_flight = false;
	state->next_len = 0;
	state->cmd_id = 0;
	state->asked_id = 0;
	state->answer_id = 0;
	state->sequence = 0;
	memset(&state->reclaim, 0, sizeof(state->reclaim));
	state->reclaim_ended = false;
	state->reclaim_id = 0;
	state->reclaim_status = VIRTIO_BALLOON_WORKING_SET_OK;
	state->reclaimed_bytes = 0;
}
EXPORT_SYMBOL_GPL(virtio_balloon_wsr_set_vq);

/**
 * virtio_balloon_wsr_changed - the configuration space has changed, or is new
 * @wsr: initialised
 *
 * Context: any.
 */
void virtio_balloon_wsr_changed(struct virtio_balloon_wsr *wsr)
{
	if (wsr->state)
		queue_work(system_freezable_wq, &wsr->state->config_work);
}
EXPORT_SYMBOL_GPL(virtio_balloon_wsr_changed);

/**
 * virtio_balloon_wsr_ack - the device has used a buffer
 * @wsr: initialised, with the feature
 *
 * Context: any.
 */
void virtio_balloon_wsr_ack(struct virtio_balloon_wsr *wsr)
{
	queue_work(system_freezable_wq, &wsr->state->ack_work);
}
EXPORT_SYMBOL_GPL(virtio_balloon_wsr_ack);

/**
 * virtio_balloon_wsr_stop - the queue goes away, but may come back
 * @wsr: initialised
 *
 * Context: may sleep. Called before suspend, with freezable workqueues frozen.
 */
void virtio_balloon_wsr_stop(struct virtio_balloon_wsr *wsr)
{
	struct virtio_balloon_wsr_state *state = wsr->state;

	if (!state)
		return;

	scoped_guard(mutex, &state->lock)
		state->vq = NULL;
	virtio_balloon_wsr_cancel_reclaim(state);
	cancel_work_sync(&state->reclaim_work);
}
EXPORT_SYMBOL_GPL(virtio_balloon_wsr_stop);

/**
 * virtio_balloon_wsr_quiesce - stop for good
 * @wsr: initialised
 *
 * The device may still call virtio_balloon_wsr_ack() and _changed() until it is
 * reset; they do nothing any more.
 *
 * Context: may sleep. Called before the queue is deleted.
 */
void virtio_balloon_wsr_quiesce(struct virtio_balloon_wsr *wsr)
{
	struct virtio_balloon_wsr_state *state = wsr->state;

	if (!state)
		return;

	/* All of this can be done again: virtio_balloon_wsr_free() does. */
	unregister_pm_notifier(&state->pm_notifier);
	disable_work_sync(&state->config_work);
	disable_work_sync(&state->ack_work);
	virtio_balloon_wsr_cancel_reclaim(state);
	disable_work_sync(&state->reclaim_work);
	wsr_receiver_free(state->receiver);
	state->receiver = NULL;
}
EXPORT_SYMBOL_GPL(virtio_balloon_wsr_quiesce);

/**
 * virtio_balloon_wsr_free - undo virtio_balloon_wsr_init()
 * @wsr: initialised. If a queue was set, the device was reset.
 *
 * Context: may sleep.
 */
void virtio_balloon_wsr_free(struct virtio_balloon_wsr *wsr)
{
	struct virtio_balloon_wsr_state *state = wsr->state;

	if (!state)
		return;

	virtio_balloon_wsr_quiesce(wsr);
	mutex_destroy(&state->lock);
	kfree(state->sent);
	kfree(state->next);
	kfree(state);
	wsr->state = NULL;
}
EXPORT_SYMBOL_GPL(virtio_balloon_wsr_free);

MODULE_DESCRIPTION("Virtio balloon driver: working set reports");
MODULE_LICENSE("GPL");
