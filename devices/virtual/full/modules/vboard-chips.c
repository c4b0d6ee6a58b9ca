// SPDX-License-Identifier: GPL-2.0
// What the chips of the virtual board measure: writes the registers of i2c-stub that the real drivers then read.
//
// It finds the chips in the device tree, below the node "vboard,i2c-stub", gives them the values they have after
// power-up, and then, every 100 ms, what a simple model says: power between idle and busy by the load of core 0 and its
// clock, temperature that approaches ambient + rise * power with one time constant. Everything here is made up: a model
// that moves is there to test what reads it.
//
// Parameters in /sys/module/vboard_chips/parameters, all for root:
//   model        1 the model writes (at start), 0 it does not
//   power        "ADDRESS CHANNEL MILLIWATT" writes one rail, and stops the model
//   temperature  "ADDRESS MILLICELSIUS" writes one sensor, and stops the model
//   register     "ADDRESS REGISTER VALUE" writes one register as the data sheet numbers its bits, and stops the model
//   seed         any text: new random numbers from here on (after a restored snapshot all boards draw the same)
#include <linux/bitops.h>
#include <linux/cpufreq.h>
#include <linux/fs.h>
#include <linux/i2c.h>
#include <linux/kernel_stat.h>
#include <linux/module.h>
#include <linux/of.h>
#include <linux/random.h>
#include <linux/swab.h>
#include <linux/workqueue.h>

#define BUS 1
#define PERIOD_MS 100
#define FULL 1024  /* load: a core that never idles, at its highest clock */
#define MAX_RAILS 6
#define MAX_SENSORS 4

/* INA3221, data sheet SBOS576: a shunt step is 40 uV, a bus step 8 mV, both above three unused bits. */
#define INA3221_SHUNT(channel) (1 + 2 * (channel))
#define INA3221_BUS(channel) (2 + 2 * (channel))
#define INA3221_STEP_SHIFT 3

struct rail {
	u16 address;
	u32 channel, shunt_uohm, supply_mv, idle_mw, busy_mw;
};

struct sensor {
	u16 address;
	u32 ambient_mc, rise_mc, time_constant_ms;
	s64 now_uc;
};

static struct i2c_adapter *bus;
static struct rail rails[MAX_RAILS];
static struct sensor sensors[MAX_SENSORS];
static unsigned int rail_count, sensor_count;
static bool model = true;
static DEFINE_MUTEX(lock);
static void tick(struct work_struct *work);
static DECLARE_DELAYED_WORK(ticker, tick);

/* SMBus sends the low byte of a word first, these chips their high byte: hence the swap. */
static int write_register(u16 address, u8 command, u16 value)
{
	union i2c_smbus_data data = { .word = swab16(value) };

	return i2c_smbus_xfer(bus, address, 0, I2C_SMBUS_WRITE, command, I2C_SMBUS_WORD_DATA, &data);
}

static int write_power(const struct rail *rail, u32 mw)
{
	u32 ma = mw * 1000 / rail->supply_mv;
	u32 shunt_uv = (u64)ma * rail->shunt_uohm / 1000;
	/* To the nearest step, and at most what 12 bits with a sign can say. */
	u32 shunt_steps = min_t(u32, (shunt_uv + 20) / 40, 0xfff);
	int error = write_register(rail->address, INA3221_BUS(rail->channel),
				   rail->supply_mv / 8 << INA3221_STEP_SHIFT);

	return error ?: write_register(rail->address, INA3221_SHUNT(rail->channel), shunt_steps << INA3221_STEP_SHIFT);
}

/* TMP75: two's complement, 1/256 degree, of which the chip measures 12 bits. */
static int write_temperature(u16 address, s32 mc)
{
	return write_register(address, 0, (s16)(mc * 256 / 1000) & 0xfff0);
}

/* Values after power-up, and CVRF (bit 0 of 0x0f): conversions are ready, the driver waits for it. */
static int power_up_ina3221(u16 address)
{
	static const u16 defaults[][2] = {
		{ 0x00, 0x7127 }, { 0x07, 0x7ff8 }, { 0x08, 0x7ff8 }, { 0x09, 0x7ff8 }, { 0x0a, 0x7ff8 },
		{ 0x0b, 0x7ff8 }, { 0x0c, 0x7ff8 }, { 0x0e, 0x7ffe }, { 0x0f, 0x0003 }, { 0x10, 0x2710 },
		{ 0x11, 0x2328 }, { 0xfe, 0x5449 }, { 0xff, 0x3220 },
	};
	int error = 0;

	for (int i = 0; i < ARRAY_SIZE(defaults) && !error; i++)
		error = write_register(address, defaults[i][0], defaults[i][1]);
	return error;
}

/* Load of core 0 since the last call, weighted with its clock: 0 to FULL. */
static u32 load(void)
{
	static u64 idle_before, wall_before;
	u64 wall, idle = get_cpu_idle_time(0, &wall, 1);
	u64 passed = wall - wall_before, idled = min(idle - idle_before, passed);
	u32 busy = passed ? (u32)div64_u64((passed - idled) * FULL, passed) : 0;
	u32 highest = cpufreq_quick_get_max(0), khz = cpufreq_quick_get(0);

	idle_before = idle;
	wall_before = wall;
	return highest && khz ? (u32)((u64)busy * min(khz, highest) / highest) : busy;
}

static void tick(struct work_struct *work)
{
	u32 now = load();

	mutex_lock(&lock);
	for (int i = 0; model && i < rail_count; i++)
		write_power(&rails[i], rails[i].idle_mw + (rails[i].busy_mw - rails[i].idle_mw) * now / FULL);
	for (int i = 0; model && i < sensor_count; i++) {
		struct sensor *s = &sensors[i];
		s64 end_uc = 1000LL * (s->ambient_mc + (u64)s->rise_mc * now / FULL);

		s->now_uc += div_s64((end_uc - s->now_uc) * PERIOD_MS, s->time_constant_ms);
		write_temperature(s->address, (s32)div_s64(s->now_uc, 1000));
	}
	mutex_unlock(&lock);
	schedule_delayed_work(&ticker, msecs_to_jiffies(PERIOD_MS));
}

static int set_power(const char *text, const struct kernel_param *parameter)
{
	unsigned int address, channel, mw;
	int error = -ENODEV;

	if (sscanf(text, "%i %u %u", &address, &channel, &mw) != 3)
		return -EINVAL;
	mutex_lock(&lock);
	model = false;
	for (int i = 0; i < rail_count; i++)
		if (rails[i].address == address && rails[i].channel == channel)
			error = write_power(&rails[i], mw);
	mutex_unlock(&lock);
	return error;
}

static int set_temperature(const char *text, const struct kernel_param *parameter)
{
	unsigned int address;
	int mc, error = -ENODEV;

	if (sscanf(text, "%i %d", &address, &mc) != 2 || mc < -55000 || mc > 127000)
		return -EINVAL;
	mutex_lock(&lock);
	model = false;
	for (int i = 0; i < sensor_count; i++) {
		if (sensors[i].address != address)
			continue;
		sensors[i].now_uc = 1000LL * mc;  /* where the model goes on from */
		error = write_temperature(address, mc);
	}
	mutex_unlock(&lock);
	return error;
}

static int set_register(const char *text, const struct kernel_param *parameter)
{
	unsigned int address, command, value;
	int error;

	if (sscanf(text, "%i %i %i", &address, &command, &value) != 3 || command > 0xff || value > 0xffff)
		return -EINVAL;
	mutex_lock(&lock);
	model = false;
	error = write_register(address, command, value);
	mutex_unlock(&lock);
	return error;
}

/* The pool alone is no help: the generator draws from it again only after a minute, or when asked. */
static int set_seed(const char *text, const struct kernel_param *parameter)
{
	struct file *urandom = filp_open("/dev/urandom", O_WRONLY, 0);
	long error;

	if (IS_ERR(urandom))
		return PTR_ERR(urandom);
	add_device_randomness(text, strlen(text));
	error = urandom->f_op->unlocked_ioctl(urandom, RNDRESEEDCRNG, 0);
	filp_close(urandom, NULL);
	return (int)error;
}

static const struct kernel_param_ops power_ops = { .set = set_power };
static const struct kernel_param_ops temperature_ops = { .set = set_temperature };
static const struct kernel_param_ops register_ops = { .set = set_register };
static const struct kernel_param_ops seed_ops = { .set = set_seed };

module_param(model, bool, 0600);
module_param_cb(power, &power_ops, NULL, 0200);
module_param_cb(temperature, &temperature_ops, NULL, 0200);
module_param_cb(register, &register_ops, NULL, 0200);
module_param_cb(seed, &seed_ops, NULL, 0200);

static int find_rails(struct device_node *chip, u16 address)
{
	struct device_node *input;

	for_each_available_child_of_node(chip, input) {
		struct rail rail = { .address = address };

		if (rail_count == MAX_RAILS || of_property_read_u32(input, "reg", &rail.channel) ||
		    of_property_read_u32(input, "shunt-resistor-micro-ohms", &rail.shunt_uohm) ||
		    of_property_read_u32(input, "vboard,supply-millivolt", &rail.supply_mv) ||
		    of_property_read_u32(input, "vboard,idle-milliwatt", &rail.idle_mw) ||
		    of_property_read_u32(input, "vboard,busy-milliwatt", &rail.busy_mw) || !rail.supply_mv) {
			of_node_put(input);
			return -EINVAL;
		}
		rails[rail_count++] = rail;
	}
	return power_up_ina3221(address);
}

static int find_sensor(struct device_node *chip, u16 address)
{
	struct sensor sensor = { .address = address };

	if (sensor_count == MAX_SENSORS ||
	    of_property_read_u32(chip, "vboard,ambient-millicelsius", &sensor.ambient_mc) ||
	    of_property_read_u32(chip, "vboard,rise-millicelsius", &sensor.rise_mc) ||
	    of_property_read_u32(chip, "vboard,time-constant-ms", &sensor.time_constant_ms) ||
	    !sensor.time_constant_ms)
		return -EINVAL;
	sensor.now_uc = 1000LL * sensor.ambient_mc;
	sensors[sensor_count++] = sensor;
	return write_temperature(address, sensor.ambient_mc);
}

static int find_chips(void)
{
	struct device_node *node = of_find_compatible_node(NULL, NULL, "vboard,i2c-stub");
	struct device_node *chip;
	int error = 0;

	for_each_child_of_node(node, chip) {
		u32 address;

		error = of_property_read_u32(chip, "reg", &address);
		if (!error && of_device_is_compatible(chip, "ti,ina3221"))
			error = find_rails(chip, address);
		else if (!error && of_device_is_compatible(chip, "ti,tmp75"))
			error = find_sensor(chip, address);
		if (error) {
			pr_err("vboard-chips: %pOF is not understood: %d\n", chip, error);
			of_node_put(chip);
			break;
		}
	}
	of_node_put(node);
	return error;
}

static int __init chips_init(void)
{
	int error;

	bus = i2c_get_adapter(BUS);
	if (!bus)
		return -ENODEV;
	error = find_chips();
	if (error) {
		i2c_put_adapter(bus);
		return error;
	}
	load();
	schedule_delayed_work(&ticker, 0);
	return 0;
}

static void __exit chips_exit(void)
{
	cancel_delayed_work_sync(&ticker);
	i2c_put_adapter(bus);
}

module_init(chips_init);
module_exit(chips_exit);
MODULE_DESCRIPTION("What the chips of the virtual board measure");
MODULE_LICENSE("GPL");
