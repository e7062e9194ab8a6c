"""A few decisions of three aircraft at KABQ, made by hand."""

import numpy as np

from wm.sector import traffic as tr

ROUTES = [
    {
        "route": "EAST.WEST1.KABQ",
        "waypoints": [
            {"name": "EAST", "x_nm": 20.0, "y_nm": 0.0},
            {"name": "MIDDL", "x_nm": 10.0, "y_nm": 0.0},
            {"name": "#270", "x_nm": None, "y_nm": None},
            {"name": "WEST", "x_nm": -10.0, "y_nm": 5.0},
        ],
    }
]
CALLSIGNS = {4: "SWA12", 7: "N3164"}


def scene() -> tr.Scene:
    """Five times. Slot 0: 4, which descends, turns and is gone at the last; slot 1: 9, which takes off.

    Slot 2: 7, there at the last two times alone, in the slot that 5 had at the first one.
    """
    t = tr.empty(tr.Traffic, (5, 3), np)
    t.valid[:4, 0], t.valid[:, 1], t.valid[[0, 3, 4], 2] = True, True, True
    t.id[:4, 0], t.id[:, 1], t.id[0, 2], t.id[3:, 2] = 4, 9, 5, 7
    t.category[:] = (tr.ARRIVAL, tr.DEPARTURE, tr.OVERFLIGHT)
    t.phase[:] = (tr.DESCENT, tr.TAKEOFF, tr.CRUISE)
    t.x_nm[:, 0] = (20.0, 19.5, 19.0, 18.5, 0.0)
    t.altitude_ft[:, 0] = (10000.0, 9900.0, 9700.0, 9700.0, 0.0)
    t.altitude_ft[:, 1] = (5355.0, 5355.0, 5359.0, 5500.0, 5800.0)
    t.altitude_ft[:, 2] = 24000.0
    t.ground_speed_kt[:] = (360.0, 120.0, 420.0)
    t.ground_track_rad[:] = np.radians((270.0, 80.0, 355.0))
    t.heading_rad[:] = np.radians((270.0, 80.0, 355.0))
    t.target_heading_rad[:] = np.radians((270.0, 80.0, 355.0))
    t.target_heading_rad[2:, 0] = np.radians(180.0)
    t.speed_kt[:] = t.target_speed_kt[:] = (300.0, 130.0, 320.0)
    t.target_altitude_ft[:] = (8000.0, 12000.0, 24000.0)
    t.climb_fpm[:], t.descent_fpm[:], t.jet[:, :2] = 3000.0, 2000.0, True
    t.heading_mode[:, 0] = (tr.HEADING_LNAV, tr.HEADING_LNAV, tr.MODE_HOLD, tr.MODE_HOLD, -1)
    t.route[:, 0], t.leg[:, 0] = 0, (0, 1, 1, 1, -1)
    none = np.zeros((5, 0), np.float32)
    return tr.Scene(
        traffic=t,
        runways=tr.empty(tr.Runways, (5, 6), np),
        since_spawn_s=none,
        wind_speed_kt=np.full(5, 10.0, np.float32),
        wind_from_rad=np.full(5, np.pi / 2, np.float32),
        time_s=np.arange(5, dtype=np.float32) * tr.STEP_S,
    )
