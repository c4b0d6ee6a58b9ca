// SPDX-License-Identifier: GPL-2.0
// The clock of the virtual board's cores: it takes any rate, remembers it, and changes nothing else.
//
// QEMU's board has no such clock, and without one cpufreq-dt refuses to start. Asked for once by the node
// "vboard,cpu-clock".
#include <linux/clk-provider.h>
#include <linux/err.h>
#include <linux/module.h>
#include <linux/of.h>
#include <linux/platform_device.h>

struct vboard_clock {
	struct clk_hw hw;
	unsigned long hz;
};

static unsigned long recalc_rate(struct clk_hw *hw, unsigned long parent_hz)
{
	return container_of(hw, struct vboard_clock, hw)->hz;
}

static long round_rate(struct clk_hw *hw, unsigned long hz, unsigned long *parent_hz)
{
	return hz;
}

static int set_rate(struct clk_hw *hw, unsigned long hz, unsigned long parent_hz)
{
	container_of(hw, struct vboard_clock, hw)->hz = hz;
	return 0;
}

static const struct clk_ops clock_ops = {
	.recalc_rate = recalc_rate,
	.round_rate = round_rate,
	.set_rate = set_rate,
};

/* The kernel makes this device itself, but not for boards whose vendor has a driver of its own, such as Tegra. */
static int make_cpufreq(void)
{
	struct device *made = bus_find_device_by_name(&platform_bus_type, NULL, "cpufreq-dt");

	if (made) {
		put_device(made);
		return 0;
	}
	return PTR_ERR_OR_ZERO(platform_device_register_simple("cpufreq-dt", -1, NULL, 0));
}

static int clock_probe(struct platform_device *device)
{
	const struct clk_init_data init = {
		.name = "vboard-cpu",
		.ops = &clock_ops,
		.flags = CLK_GET_RATE_NOCACHE,
	};
	struct vboard_clock *clock = devm_kzalloc(&device->dev, sizeof(*clock), GFP_KERNEL);
	u32 hz;
	int error;

	if (!clock)
		return -ENOMEM;
	error = of_property_read_u32(device->dev.of_node, "clock-frequency", &hz);
	if (error)
		return dev_err_probe(&device->dev, error, "no clock-frequency\n");
	clock->hz = hz;
	clock->hw.init = &init;
	error = devm_clk_hw_register(&device->dev, &clock->hw);
	if (error)
		return error;
	error = devm_of_clk_add_hw_provider(&device->dev, of_clk_hw_simple_get, &clock->hw);
	if (error)
		return error;
	return make_cpufreq();
}

static const struct of_device_id clock_ids[] = {
	{ .compatible = "vboard,cpu-clock" },
	{}
};
MODULE_DEVICE_TABLE(of, clock_ids);

static struct platform_driver clock_driver = {
	.probe = clock_probe,
	.driver = {
		.name = "vboard-clock",
		.of_match_table = clock_ids,
		.suppress_bind_attrs = true,
	},
};
builtin_platform_driver(clock_driver);  /* stays loaded: a clock in use cannot be taken away */

MODULE_DESCRIPTION("CPU clock of the virtual board");
MODULE_LICENSE("GPL");
