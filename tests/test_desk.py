"""What people are told of a name that there is not: it is mistyped more often than gone."""

from tests.harness import Rig


async def test_a_name_that_is_nearly_one_is_told_with_that_one(rig: Rig, inside) -> None:
    await rig.engine("gpu-a")
    rig.model("qwen")
    await rig.start()
    for asked, near in (
        ("channels show gpu-b", "gpu-a"),
        ("channels probe gpu_a", "gpu-a"),
        ("channels drain gpua", "gpu-a"),
        ("routes show qwn", "qwen"),
        ("routes explain --model qwen --key k11", "k1"),
        ("limits show --model qwn", "qwen"),
        ("limits show --tenant acm", "acme"),
        ("limits show --key k11", "k1"),
        ("prices show qwn", "qwen"),
        ("prices show qwen --tenant acm", "acme"),
        ("keys show k11", "k1"),
        ("keys revoke k11 --yes", "k1"),
        ("routes set-weight qwn gpu-a 2", "qwen"),
    ):
        code, out, err = await inside(*asked.split(), "--config", str(rig.path))
        assert code and not out and f'did you mean "{near}"?' in err, (asked, err)
    code, _, err = await inside("channels", "show", "zzzz", "--config", str(rig.path))
    assert code == 1 and err == "gatewayctl: there is no channel 'zzzz'\n"


async def test_of_a_report_about_nothing_the_name_is_told(rig: Rig, inside) -> None:
    await rig.engine("gpu-a")
    rig.model("qwen")
    await rig.start()
    for asked, near in (
        ("usage reconcile --channel gpu-b", 'no channel "gpu-b"; did you mean "gpu-a"?'),
        ("cost forecast --tenant acm", 'no tenant "acm"; did you mean "acme"?'),
        ("cost reprice --since 1d --model qwn --dry-run", 'no model "qwn"; did you mean "qwen"?'),
    ):
        code, _, err = await inside(*asked.split(), "--config", str(rig.path))
        assert code == 0 and near in err, (asked, err)
